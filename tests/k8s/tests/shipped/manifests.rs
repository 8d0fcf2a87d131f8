//! The manifests: that they build, that Kubernetes 1.34 knows every field of them, and the names that others rely on.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use millrace_k8s::overlay::Overlay;
use millrace_k8s::{kubectl, setting};
use serde_json::{Value, json};
use tempfile::TempDir;

const KUBERNETES: &str = "1.34";

/// What stands in a folder of `k8s/`, as Kubernetes would be given it.
fn built(folder: &str) -> Result<(String, Vec<Value>)> {
    let path = setting::project().join("k8s").join(folder);
    if path.join("kustomization.yaml").is_file() {
        return read(kubectl::kustomize(&path)?);
    }
    read(fs::read_to_string(path.join(format!("{folder}.yaml"))).with_context(|| folder.to_owned())?)
}

fn read(yaml: String) -> Result<(String, Vec<Value>)> {
    let file = TempDir::with_prefix("millrace-manifests.")?;
    let path = file.path().join("all.yaml");
    fs::write(&path, &yaml)?;
    let script = "import json, sys, yaml; json.dump(list(yaml.safe_load_all(open(sys.argv[1]))), sys.stdout)";
    let output = Command::new(setting::validator("python")?).args(["-c", script]).arg(&path).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok((yaml, serde_json::from_slice(&output.stdout).context("the manifests as JSON")?))
}

fn validate(yaml: &str) -> Result<()> {
    let file = TempDir::with_prefix("millrace-manifests.")?;
    let path = file.path().join("all.yaml");
    fs::write(&path, yaml)?;
    let mut command = Command::new(setting::validator("kubernetes-validate")?);
    let output = command.args(["--kubernetes-version", KUBERNETES, "--strict"]).arg(&path).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{said}");
    Ok(())
}

fn find<'a>(all: &'a [Value], kind: &str, name: &str) -> Result<&'a Value> {
    let found = all.iter().find(|one| one["kind"] == kind && one["metadata"]["name"] == name);
    found.with_context(|| format!("there is no {kind} {name}"))
}

#[test]
fn base_and_overlay_are_valid() -> Result<()> {
    for folder in ["base", "overlays/aks", "kafka"] {
        let (yaml, _) = built(folder)?;
        validate(&yaml).with_context(|| folder.to_owned())?;
    }
    Ok(())
}

fn with_component(component: &str) -> Result<(String, Vec<Value>)> {
    read(kubectl::kustomize(&Overlay::with(&[component])?.path())?)
}

/// Resources of operators have definitions of their own, to which `cluster/components.rs` holds them.
#[test]
fn components_fit_the_overlay() -> Result<()> {
    let components = [
        ("event-hubs", ""),
        ("service-monitor", "ServiceMonitor"),
        ("keda", "ScaledObject"),
        ("workload-identity", ""),
        ("tls", ""),
        ("module-api", ""),
        ("registry-credentials", ""),
    ];
    for (component, kind) in components {
        let (yaml, all) = with_component(component)?;
        validate(&yaml).with_context(|| component.to_owned())?;
        ensure!(kind.is_empty() || find(&all, kind, "kstreams-count").is_ok(), "{component}: {yaml}");
    }
    let (_, scaled) = with_component("keda")?;
    let replicas = &find(&scaled, "StatefulSet", "kstreams-count")?["spec"]["replicas"];
    ensure!(replicas.is_null(), "two masters of the number of pods: {replicas}");
    Ok(())
}

/// Azure's webhook looks at the label of a pod and the annotation of its account; then the pod has to reach Azure. What the
/// set selects its pods by stays as it was, for that can't be changed.
#[test]
fn pods_with_an_identity_are_marked_and_reach_azure() -> Result<()> {
    let (_, all) = with_component("workload-identity")?;
    let annotations = &find(&all, "ServiceAccount", "kstreams-count")?["metadata"]["annotations"];
    ensure!(annotations["azure.workload.identity/client-id"].is_string(), "{annotations}");
    let set = find(&all, "StatefulSet", "kstreams-count")?;
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    ensure!(labels["azure.workload.identity/use"] == "true" && labels["app"] == "kstreams-count", "{labels}");
    ensure!(set["spec"]["selector"]["matchLabels"] == json!({"app": "kstreams-count"}), "{set}");
    let policy = &find(&all, "NetworkPolicy", "kstreams-count-azure")?["spec"];
    ensure!(policy["egress"] == json!([{"ports": [{"port": 443}]}]), "{policy}");
    ensure!(policy["podSelector"]["matchLabels"] == json!({"app": "kstreams-count"}), "{policy}");
    Ok(())
}

/// The file that a variable names is one that a secret brings, for the pod's group only; all else that was mounted still is.
#[test]
fn secrets_are_mounted_where_they_are_looked_for() -> Result<()> {
    let cases = [
        ("module-api", "MILLRACE_HTTP_TOKEN_FILE", "/token", "kstreams-count-module-token", Value::Null),
        (
            "registry-credentials",
            "DOCKER_CONFIG",
            "",
            "kstreams-count-registry",
            json!([{"key": ".dockerconfigjson", "path": "config.json"}]),
        ),
    ];
    let base = find(&built("overlays/aks")?.1, "StatefulSet", "kstreams-count")?.clone();
    let mounts =
        |set: &Value| set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].as_array().map(Vec::len);
    for (component, variable, file, secret, items) in cases {
        let (_, all) = with_component(component)?;
        let set = find(&all, "StatefulSet", "kstreams-count")?;
        let pod = &set["spec"]["template"]["spec"];
        let named = |list: &Value, key: &str, value: &str| {
            let mut list = list.as_array().into_iter().flatten();
            list.find(|one| one[key] == value).cloned().with_context(|| format!("{component}: no {value} in {set}"))
        };
        let volume = pod["volumes"].as_array().into_iter().flatten().find(|one| one["secret"]["secretName"] == secret);
        let volume = volume.with_context(|| format!("{component}: no secret {secret}"))?;
        ensure!(volume["secret"]["defaultMode"] == 0o440 && volume["secret"]["items"] == items, "{volume}");
        let name = volume["name"].as_str().context("the name of a volume")?;
        let mount = named(&pod["containers"][0]["volumeMounts"], "name", name)?;
        ensure!(mount["readOnly"] == true && mount["subPath"].is_null(), "{mount}");
        let told = named(&pod["containers"][0]["env"], "name", variable)?;
        let path = format!("{}{file}", mount["mountPath"].as_str().unwrap_or_default());
        ensure!(told["value"] == path.as_str(), "{told}, but it is in {path}");
        ensure!(mounts(set) == mounts(&base).map(|mounts| mounts + 1), "{component}: {set}");
    }
    Ok(())
}

/// What the manifests tell the application by its environment are keys that it knows.
#[test]
fn the_application_knows_its_environment() -> Result<()> {
    for component in ["event-hubs", "tls", "module-api"] {
        let (_, all) = with_component(component)?;
        let container = &find(&all, "StatefulSet", "kstreams-count")?["spec"]["template"]["spec"]["containers"][0];
        let variables = container["env"].as_array().context("env")?;
        let mut command = Command::new(setting::millrace()?);
        command.args(["config", "-c"]).arg(setting::project().join("k8s/base/counts.toml"));
        let mut names = Vec::new();
        for variable in variables {
            let name = variable["name"].as_str().context("the name of a variable")?;
            // What the kubelet puts in the place of other variables, it puts in here as well.
            let value = variable["value"].as_str().unwrap_or("from-elsewhere").replace("$(POD_NAMESPACE)", "default");
            command.env(name, value);
            names.push(name);
        }
        let output = command.output().context("run millrace config")?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        // That one is for the others.
        for name in names.into_iter().filter(|name| *name != "POD_NAMESPACE") {
            ensure!(said.contains(&format!("environment variable {name}")), "{name} sets nothing:\n{said}");
        }
    }
    Ok(())
}

#[test]
fn pods_with_a_certificate_are_probed_over_tls() -> Result<()> {
    let (_, all) = with_component("tls")?;
    let pod = &find(&all, "StatefulSet", "kstreams-count")?["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
        let asked = &container[probe]["httpGet"];
        ensure!(asked["scheme"] == "HTTPS" && asked["port"] == "http" && asked["path"].is_string(), "{asked}");
    }
    let mounted = |name: &str| {
        let mounts = container["volumeMounts"].as_array().into_iter().flatten();
        mounts.filter(|mount| mount["name"] == name && mount["subPath"].is_null()).count() == 1
    };
    ensure!(mounted("tls") && mounted("count-store") && mounted("config"), "{container}");
    Ok(())
}

/// A validator that lets everything pass would prove nothing.
#[test]
fn a_slip_of_the_pen_is_not_valid() -> Result<()> {
    let (yaml, _) = built("base")?;
    let wrong = validate(&yaml.replace("terminationGracePeriodSeconds", "terminationGraceSeconds"));
    let why = wrong.err().map(|error| format!("{error:#}")).unwrap_or_default();
    ensure!(why.contains("terminationGraceSeconds"), "{why}");
    Ok(())
}

#[test]
fn names_are_those_of_the_reference_deployment() -> Result<()> {
    for folder in ["base", "overlays/aks"] {
        let (_, all) = built(folder)?;
        for one in &all {
            ensure!(one["metadata"]["labels"]["app"] == "kstreams-count", "{folder}: no label app: {one}");
        }
        let service = find(&all, "Service", "kstreams-count-service")?;
        ensure!(service["spec"]["clusterIP"] == "None", "{service}");
        find(&all, "PodDisruptionBudget", "kstreams-count")?;
        find(&all, "NetworkPolicy", "kstreams-count")?;

        let set = &find(&all, "StatefulSet", "kstreams-count")?["spec"];
        ensure!(set["replicas"] == 2 && set["serviceName"] == "kstreams-count-service", "{set}");
        ensure!(set["selector"]["matchLabels"] == json!({"app": "kstreams-count"}), "{set}");
        let policy = json!({"whenDeleted": "Retain", "whenScaled": "Retain"});
        ensure!(set["persistentVolumeClaimRetentionPolicy"] == policy, "{set}");
        let claim = &set["volumeClaimTemplates"][0];
        ensure!(claim["metadata"]["name"] == "count-store", "{claim}");
        ensure!(claim["spec"]["accessModes"] == json!(["ReadWriteOnce"]), "{claim}");
        ensure!(claim["spec"]["resources"]["requests"]["storage"] == "1Gi", "{claim}");
        let class = if folder == "base" { Value::Null } else { json!("managed-csi-premium") };
        ensure!(claim["spec"]["storageClassName"] == class, "{claim}");

        let pod = &set["template"]["spec"];
        let container = &pod["containers"][0];
        let mounts = container["volumeMounts"].as_array().context("volumeMounts")?;
        let store = mounts.iter().find(|mount| mount["name"] == "count-store").context("count-store is not mounted")?;
        ensure!(store["mountPath"] == "/data/count-store", "{store}");
        ensure!(container["env"][0]["name"] == "KAFKA_BROKER", "{container}");
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            ensure!(container[probe]["httpGet"]["port"] == "http", "{probe}: {container}");
        }
        ensure!(container["securityContext"]["readOnlyRootFilesystem"] == true, "{container}");
        ensure!(pod["securityContext"]["runAsNonRoot"] == true, "{pod}");
        let apart = &pod["affinity"]["podAntiAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"][0];
        ensure!(apart["topologyKey"] == "kubernetes.io/hostname", "{pod}");
    }
    Ok(())
}

/// The user of the image and of the pods are the same, and so is the group that the disk is given to.
#[test]
fn pods_run_as_the_user_of_the_image() -> Result<()> {
    let (_, all) = built("base")?;
    let security = &find(&all, "StatefulSet", "kstreams-count")?["spec"]["template"]["spec"]["securityContext"];
    let user = format!("{}:{}", security["runAsUser"], security["runAsGroup"]);
    ensure!(millrace_k8s::dockerfile::Dockerfile::read()?.last("USER")? == user, "{security}");
    ensure!(security["fsGroup"] == security["runAsGroup"], "{security}");
    Ok(())
}
