//! Instances that serve over TLS, ask each other so, and take up certificates as a mounted secret renews them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use millrace_e2e::app::App;
use millrace_e2e::kafka::Kafka;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};

/// As the kubelet mounts a secret: the files are links through `..data`, which is a link to the directory that has them at
/// the moment.
struct Secret {
    directory: PathBuf,
    issued: u32,
    authority: CertifiedIssuer<'static, KeyPair>,
}

const FILES: [&str; 3] = ["tls.crt", "tls.key", "ca.crt"];

impl Secret {
    fn new(directory: PathBuf) -> Result<Self> {
        fs::create_dir(&directory)?;
        for file in FILES {
            symlink(Path::new("..data").join(file), directory.join(file))?;
        }
        Ok(Self { directory, issued: 0, authority: authority()? })
    }

    fn path(&self, file: &str) -> String {
        self.directory.join(file).to_string_lossy().into_owned()
    }

    /// A certificate of another authority than before.
    fn renew(&mut self) -> Result<()> {
        self.authority = authority()?;
        let key = KeyPair::generate()?;
        let certificate = self.certificate(&key)?;
        self.put(&certificate, &key)
    }

    /// A certificate of the same authority, with the key of another.
    fn spoil(&mut self) -> Result<()> {
        let certificate = self.certificate(&KeyPair::generate()?)?;
        self.put(&certificate, &KeyPair::generate()?)
    }

    fn certificate(&self, key: &KeyPair) -> Result<String> {
        let names = ["127.0.0.2", "127.0.0.3"].map(str::to_owned);
        Ok(CertificateParams::new(names)?.signed_by(key, &self.authority)?.pem())
    }

    fn put(&mut self, certificate: &str, key: &KeyPair) -> Result<()> {
        self.issued += 1;
        let target = format!("..{}", self.issued);
        let contents = [certificate.to_owned(), key.serialize_pem(), self.authority.pem()];
        fs::create_dir(self.directory.join(&target))?;
        for (file, text) in FILES.into_iter().zip(contents) {
            fs::write(self.directory.join(&target).join(file), text)?;
        }
        let link = self.directory.join("..data_tmp");
        symlink(target, &link)?;
        fs::rename(link, self.directory.join("..data")).context("swap the link")
    }
}

fn authority() -> Result<CertifiedIssuer<'static, KeyPair>> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    Ok(CertifiedIssuer::self_signed(params, KeyPair::generate()?)?)
}

#[test]
fn instances_ask_each_other_over_tls_and_take_up_renewed_certificates() -> Result<()> {
    let mut app = App::new(&Kafka::shared()?, "tls")?;
    let mut secret = Secret::new(app.path("secret"))?;
    secret.renew()?;
    let port = TcpListener::bind("127.0.0.2:0").context("find a free port")?.local_addr()?.port();
    app.set("http.peers", &format!("127.0.0.{{instance}}:{port}"));
    for (key, file) in [("certificate", "tls.crt"), ("key", "tls.key"), ("ca", "ca.crt")] {
        app.set(&format!("http.tls.{key}.file"), &secret.path(file));
    }
    for instance in ["2", "3"] {
        app.set_for(instance, "group.instance.id", instance);
        app.set_for(instance, "http.listen", &format!("127.0.0.{instance}:{port}"));
        app.leaves_on_stop(instance);
    }
    let mut first = app.run("2")?;
    let mut second = app.run("3")?;
    let told = |arguments: &[&str]| -> Result<()> {
        let text = app.ask("2", arguments)?;
        ensure!(["2 ", "3 "].iter().all(|name| text.contains(&format!("\n{name}"))), "{arguments:?}:\n{text}");
        Ok(())
    };
    let (third, ca) = (format!("127.0.0.3:{port}"), secret.path("ca.crt"));
    told(&["tasks"])?;
    told(&["tasks", &third, "--ca", &ca])?;
    app.denied("2", &["tasks", &format!("https://{third}")], &["certificate", "--ca"])?;
    app.denied("2", &["tasks", &third], &["then say https://"])?;

    secret.renew()?;
    for process in [&first, &second] {
        process.line(&["the certificate was renewed", "certificate="])?;
    }
    told(&["tasks"])?;
    secret.spoil()?;
    for process in [&first, &second] {
        process.line(&["ERROR", "tls.crt", "the one before stays in force"])?;
    }
    told(&["tasks"])?;
    first.stop()?;
    second.stop()
}
