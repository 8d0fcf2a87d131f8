//! `docs/aks.md`: that its commands are what a shell, `kubectl` and `millrace` know, and that files and names in them exist.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};

use anyhow::{Context, Result, ensure};
use millrace_k8s::{kubectl, setting};

fn guide() -> Result<String> {
    fs::read_to_string(setting::project().join("docs/aks.md")).context("read docs/aks.md")
}

/// What stands in its fenced blocks for a shell, in their order.
fn script() -> Result<String> {
    let (guide, mut script, mut inside) = (guide()?, String::new(), false);
    for line in guide.lines() {
        match line {
            "```sh" => inside = true,
            "```" => inside = false,
            line if inside => script += &format!("{line}\n"),
            _ => {}
        }
    }
    ensure!(script.lines().count() > 50, "hardly a command was found:\n{script}");
    Ok(script)
}

/// The words of each command that begins with this one, up to where the shell ends it.
fn commands(program: &str) -> Result<Vec<Vec<String>>> {
    let script = script()?.replace("\\\n", " ");
    let mut found = Vec::new();
    for line in script.lines() {
        let words: Vec<_> = line.split_whitespace().collect();
        for (at, word) in words.iter().enumerate() {
            if word.trim_start_matches(['"', '$', '(']) == program {
                let end = |word: &&&str| !matches!(**word, "|" | "&&" | ";");
                let rest = words[at + 1..].iter().take_while(end);
                found.push(rest.map(|word| word.trim_matches(['"', '\'', ';', ')']).to_owned()).collect());
            }
        }
    }
    ensure!(!found.is_empty(), "no {program} in the guide");
    Ok(found)
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    // Which a configuration has to name, whether it is asked or not.
    let mut command = Command::new(program);
    command.args(arguments).env("KAFKA_BROKER", "kafka:9092");
    let output = command.output().with_context(|| format!("run {program}"))?;
    ensure!(output.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn a_shell_can_read_it() -> Result<()> {
    let mut shell = Command::new("bash").args(["-n", "-u"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn()?;
    let mut stdin = shell.stdin.take().context("bash has a standard input")?;
    stdin.write_all(script()?.as_bytes())?;
    drop(stdin);
    let output = shell.wait_with_output()?;
    ensure!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
fn files_and_links_exist() -> Result<()> {
    let (guide, script) = (guide()?, script()?);
    let words = script.split(|c: char| c.is_whitespace() || "\"'>=;()".contains(c));
    let files = words.filter(|word| word.starts_with("k8s/") || word.starts_with("./") || word.starts_with("docs/"));
    let links =
        guide.split("](").skip(1).filter_map(|rest| rest.split(')').next()).filter(|link| !link.starts_with("http"));
    let mut seen = 0;
    let links = links.map(|link| format!("docs/{}", link.split('#').next().unwrap_or_default()));
    for file in files.map(str::to_owned).chain(links) {
        ensure!(setting::project().join(&file).exists(), "{file} does not exist");
        seen += 1;
    }
    ensure!(seen > 5, "only {seen} files were found in the guide");
    // Components and keys are named in the text.
    for component in guide.split("../../components/").skip(1).filter_map(|rest| rest.split('`').next()) {
        let folder = setting::project().join("k8s/components").join(component);
        ensure!(folder.join("kustomization.yaml").is_file(), "there is no component {component}");
    }
    Ok(())
}

#[test]
fn kubectl_knows_its_commands_and_options() -> Result<()> {
    let everywhere = said("kubectl", &["options"])?;
    for command in commands("kubectl")? {
        let ours = command.split(|word| word == "--").next().unwrap_or_default();
        let verbs: Vec<_> = ours.iter().map(String::as_str).take_while(|word| !word.starts_with('-')).collect();
        let verbs = match verbs[..] {
            ["create", "secret", kind, ..] => vec!["create", "secret", kind],
            [first @ ("rollout" | "config"), second, ..] => vec![first, second],
            [first, ..] => vec![first],
            [] => continue,
        };
        let help = said("kubectl", &[&verbs[..], &["--help"]].concat())?;
        ensure!(help.contains("Usage:"), "kubectl {verbs:?}: {help}");
        for option in ours.iter().filter(|word| word.starts_with('-')) {
            let name = option.split('=').next().unwrap_or(option);
            let known = |help: &str| {
                help.split_whitespace().any(|word| word.trim_end_matches([',', ':']).split('=').next() == Some(name))
            };
            ensure!(known(&help) || known(&everywhere), "kubectl {verbs:?} has no option {name}: {command:?}");
        }
    }
    Ok(())
}

#[test]
fn millrace_knows_its_commands() -> Result<()> {
    let binary = setting::millrace()?;
    for command in commands("millrace")? {
        let words =
            if command.first().is_some_and(|first| ["module", "state"].contains(&first.as_str())) { 2 } else { 1 };
        let mut arguments: Vec<&str> = command.iter().take(words).map(String::as_str).collect();
        arguments.push("--help");
        let help = said(&binary.to_string_lossy(), &arguments)?;
        for option in command.iter().filter(|word| word.starts_with('-')) {
            ensure!(
                help.contains(&format!("{option}, ")) || help.contains(&format!("{option} ")),
                "{command:?}: {help}"
            );
        }
    }
    Ok(())
}

#[test]
fn names_are_those_of_the_manifests() -> Result<()> {
    let mut manifests = String::new();
    for folder in ["base", "overlays/aks"] {
        manifests += &kubectl::kustomize(&setting::project().join("k8s").join(folder))?;
    }
    manifests += &fs::read_to_string(setting::project().join("k8s/kafka/kafka.yaml"))?;
    for component in ["event-hubs", "module-api", "registry-credentials"] {
        let folder = setting::project().join("k8s/components").join(component);
        manifests += &fs::read_to_string(folder.join("statefulset.yaml"))?;
    }
    let known: BTreeSet<&str> = manifests.split(|c: char| !(c.is_alphanumeric() || c == '-')).collect();
    let text = script()?;
    let words = text.split(|c: char| !(c.is_alphanumeric() || c == '-'));
    let ours: BTreeSet<&str> = words.filter(|word| word.contains("kstreams") || word.starts_with("kafka-0")).collect();
    ensure!(ours.len() > 5, "{ours:?}");
    for word in ours {
        // A pod is its set and a number, a claim its template and its pod.
        let name = word.strip_prefix("count-store-").unwrap_or(word);
        let name = name.strip_suffix(|c: char| c.is_ascii_digit()).map_or(name, |name| name.trim_end_matches('-'));
        ensure!(known.contains(name), "the manifests have no {name} ({word})");
    }
    let binary = setting::millrace()?;
    let (config, module) = (setting::project().join("k8s/base/counts.toml"), setting::module()?);
    let (config, module) = (config.to_string_lossy(), module.to_string_lossy());
    let topology = said(&binary.to_string_lossy(), &["describe", "-c", &config, "--module", &module])?;
    let changelog = "counts-app-count-store-changelog";
    for topic in text.split(|c: char| !(c.is_alphanumeric() || c == '-')).filter(|word| word.ends_with("-topic")) {
        ensure!(topic.starts_with("--") || topology.contains(topic), "the topology has no {topic}: {topology}");
    }
    ensure!(text.contains(changelog) && topology.contains("count-store"), "{topology}");
    Ok(())
}
