//! The components that are for operators, held to these operators' definitions of their resources.

use std::fs;

use anyhow::{Context, Result, ensure};
use millrace_k8s::kubectl::Kubectl;
use millrace_k8s::overlay::Overlay;
use millrace_k8s::setting;

/// Has the API server check everything, and keep nothing.
fn check(kubectl: &Kubectl, overlay: &Overlay) -> Result<String> {
    kubectl.run(&["apply", "--dry-run=server", "--validate=strict", "-k", &overlay.path().to_string_lossy()])
}

#[test]
fn operators_know_every_field_of_their_resources() -> Result<()> {
    let kubectl = Kubectl { namespace: "operators".to_owned() };
    kubectl.run(&["create", "namespace", &kubectl.namespace])?;
    let mut definitions = 0;
    for file in fs::read_dir(setting::definitions()?)? {
        // Too large for the annotation that a client-side apply would leave.
        let path = file?.path();
        let applied = kubectl.run(&["apply", "--server-side", "-o", "name", "-f", &path.to_string_lossy()])?;
        kubectl.run(&["wait", "--for=condition=Established", "--timeout=90s", applied.trim()])?;
        definitions += 1;
    }
    ensure!(definitions == 3, "{definitions} definitions");

    let components = [
        "service-monitor",
        "keda",
        "event-hubs",
        "keda-event-hubs",
        "workload-identity",
        "module-api",
        "registry-credentials",
        "tls",
    ];
    let applied = check(&kubectl, &Overlay::with(&components)?)?;
    for resource in [
        "servicemonitor.monitoring.coreos.com/kstreams-count",
        "scaledobject.keda.sh/kstreams-count",
        "triggerauthentication.keda.sh/kstreams-count-event-hubs",
        "statefulset.apps/kstreams-count",
        "networkpolicy.networking.k8s.io/kstreams-count-azure",
        "networkpolicy.networking.k8s.io/kstreams-count-registry",
    ] {
        ensure!(applied.contains(&format!("{resource} created")), "no {resource}:\n{applied}");
    }

    // Slips of the pen, which a definition that lets everything pass would not find.
    let slips = [
        ("service-monitor/service-monitor.yaml", "interval: 15s", "interval: 15 seconds", "spec.endpoints[0].interval"),
        ("keda/scaled-object.yaml", "pollingInterval:", "pollInterval:", "spec.pollInterval"),
    ];
    for (file, from, to, named) in slips {
        let overlay = Overlay::with(&components)?;
        overlay.edit(&format!("components/{file}"), from, to)?;
        let why = check(&kubectl, &overlay).err().with_context(|| format!("{to} was taken"))?.to_string();
        ensure!(why.contains(named), "{why}");
    }
    Ok(())
}
