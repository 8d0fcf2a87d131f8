//! HTTP over TLS, as the component switches it on, with a secret that is renewed while pods run.

use anyhow::{Context, Result};
use millrace_e2e::wait;
use millrace_k8s::deployment::{Deployment, name};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use serde_json::json;

/// A certificate for all pods, of an authority that nobody has known before.
fn issue(deployment: &Deployment) -> Result<()> {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
    let key = KeyPair::generate()?;
    let names = [format!("*.kstreams-count-service.{}.svc", deployment.kubectl.namespace)];
    let certificate = CertificateParams::new(names)?.signed_by(&key, &authority)?;
    let files = json!({"tls.crt": certificate.pem(), "tls.key": key.serialize_pem(), "ca.crt": authority.pem()});
    let metadata = json!({"name": "kstreams-count-tls"});
    let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": files});
    deployment.kubectl.feed(&["apply", "-f", "-"], secret.to_string().as_bytes()).map(drop)
}

/// Waits until one pod tells the tasks of both, for which it has to ask the other.
fn told(deployment: &Deployment) -> Result<()> {
    let ask = || deployment.kubectl.run(&["exec", &name(0), "--", "millrace", "tasks"]);
    let told = wait::until("one pod to tell the tasks of both", wait::LONG, || {
        let text = ask().unwrap_or_default();
        let of = |number| text.lines().any(|line| line.starts_with(&name(number)));
        Ok((text.matches("RUNNING").count() == 4 && of(0) && of(1)).then_some(()))
    });
    told.with_context(|| ask().unwrap_or_else(|error| format!("{error:#}")))
}

#[test]
fn pods_serve_over_tls_and_take_up_a_renewed_secret() -> Result<()> {
    let deployment = Deployment::new("tls")?;
    deployment.edit("overlays/aks/kustomization.yaml", |text| {
        let (off, on) = ("#   - ../../components/tls ", "    - ../../components/tls ");
        text.replace("# components:", "components:").replace(off, on)
    })?;
    issue(&deployment)?;
    deployment.apply()?;
    // Their probes are answered.
    deployment.rolled_out()?;
    told(&deployment)?;

    issue(&deployment)?;
    for number in 0..2 {
        wait::until("the pod to take up the certificate", wait::LONG, || {
            let log = deployment.kubectl.run(&["logs", &name(number)])?;
            Ok(log.contains("the certificate was renewed").then_some(()))
        })?;
    }
    told(&deployment)
}
