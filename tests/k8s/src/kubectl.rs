//! `kubectl` in one namespace of the cluster.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use serde_json::Value;

use crate::setting;

#[derive(Clone, Debug)]
pub struct Kubectl {
    pub namespace: String,
}

impl Kubectl {
    pub fn command(&self, arguments: &[&str]) -> Result<Command> {
        let mut command = Command::new("kubectl");
        command.arg("--kubeconfig").arg(setting::kubeconfig()?).args(["--namespace", &self.namespace]).args(arguments);
        // Discovery is cached there, and another cluster had this address before.
        command.env("KUBECACHEDIR", setting::kubeconfig()?.with_file_name("kubectl-cache"));
        Ok(command)
    }

    /// Runs it, and returns what it printed.
    pub fn run(&self, arguments: &[&str]) -> Result<String> {
        self.feed(arguments, b"")
    }

    pub fn feed(&self, arguments: &[&str], input: &[u8]) -> Result<String> {
        let mut command = self.command(arguments)?;
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().context("run kubectl")?;
        let mut stdin = child.stdin.take().context("kubectl has a standard input")?;
        stdin.write_all(input).context("write to kubectl")?;
        drop(stdin);
        let output = child.wait_with_output()?;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "kubectl {}: {errors}{text}", arguments.join(" "));
        Ok(text.into_owned())
    }

    /// Runs commands of a shell in which `kubectl` means this namespace of this cluster, up to the first that fails.
    pub fn shell(&self, script: &str) -> Result<String> {
        let config = setting::kubeconfig()?.with_file_name(format!("kubeconfig-{}", self.namespace));
        fs::copy(setting::kubeconfig()?, &config).context("copy the kubeconfig")?;
        let mut shell = Command::new("bash");
        let first = format!("kubectl config set-context --current --namespace={} >/dev/null\n", self.namespace);
        let output = shell.args(["-euo", "pipefail", "-c", &(first + script)]).env("KUBECONFIG", config).output()?;
        let (text, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        ensure!(output.status.success(), "{script}{errors}{text}");
        Ok(text.into_owned())
    }

    pub fn json(&self, arguments: &[&str]) -> Result<Value> {
        let text = self.run(&[arguments, &["-o", "json"]].concat())?;
        serde_json::from_str(&text).with_context(|| format!("kubectl {} printed no JSON", arguments.join(" ")))
    }

    /// Why it refuses.
    pub fn refused(&self, arguments: &[&str]) -> Result<String> {
        let output = self.command(arguments)?.output().context("run kubectl")?;
        ensure!(!output.status.success(), "kubectl {} was not refused", arguments.join(" "));
        Ok(String::from_utf8_lossy(&output.stderr).into_owned())
    }
}

/// What a folder builds to, which takes no cluster.
pub fn kustomize(folder: &Path) -> Result<String> {
    let output = Command::new("kubectl").arg("kustomize").arg(folder).output().context("run kubectl")?;
    ensure!(output.status.success(), "kubectl kustomize: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).context("kubectl kustomize")
}
