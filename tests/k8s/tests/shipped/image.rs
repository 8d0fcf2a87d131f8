//! The image: what the Dockerfile says, and the root file system that its one script makes, here as there.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, ensure};
use millrace_k8s::dockerfile::Dockerfile;
use millrace_k8s::setting;
use serde_json::Value;

fn size(path: &Path) -> Result<u64> {
    let metadata = fs::symlink_metadata(path)?;
    if !metadata.is_dir() {
        return Ok(metadata.size());
    }
    fs::read_dir(path)?.map(|entry| size(&entry?.path())).sum()
}

#[test]
fn dockerfile_ships_what_the_script_makes() -> Result<()> {
    let dockerfile = Dockerfile::read()?;
    ensure!(dockerfile.last("FROM")? == "scratch");
    ensure!(dockerfile.last("COPY")? == "--from=build /image /");
    let built =
        dockerfile.instructions.iter().any(|(name, what)| name == "RUN" && what.ends_with("./mill image /image"));
    ensure!(built, "no stage runs ./mill image /image: {:?}", dockerfile.instructions);
    Ok(())
}

#[test]
fn what_a_container_starts_is_there() -> Result<()> {
    let (dockerfile, root) = (Dockerfile::read()?, setting::image()?);
    let inside = |path: &str| root.join(path.trim_start_matches('/'));
    let command = dockerfile.command()?;
    let config = dockerfile.last("ENV")?.split(' ').find_map(|variable| variable.strip_prefix("MILLRACE_CONFIG="));
    let (binary, config) = (inside(&command[0]), inside(config.context("MILLRACE_CONFIG")?));
    let mode = fs::metadata(&binary).with_context(|| format!("{command:?}"))?.mode();
    ensure!(mode & 0o111 == 0o111, "mode {mode:o}");
    let config = fs::read_to_string(config)?;
    let module = config.lines().find_map(|line| line.strip_prefix("module.source = ")).context("module.source")?;
    ensure!(inside(module.trim_matches('"')).is_file(), "{module} is not in the image");
    let state = fs::metadata(inside(dockerfile.last("VOLUME")?))?;
    let user = dockerfile.last("USER")?;
    // Only root can give a directory away.
    if fs::metadata(&root)?.uid() == 0 {
        ensure!(user == format!("{}:{}", state.uid(), state.gid()), "{user} can't write to its volume");
    }
    let known = fs::read_to_string(inside("etc/passwd"))?;
    ensure!(known.contains(&format!(":{user}:")), "{user} has no name: {known}");
    ensure!(inside("bin/ls").exists() && inside("bin/sh").exists(), "there is no shell");
    Ok(())
}

#[test]
fn image_is_small_and_stripped() -> Result<()> {
    let root = setting::image()?;
    let readme = fs::read_to_string(setting::project().join("README.md"))?;
    let (before, _) = readme.split_once(" MB; another configuration").context("README.md says no size")?;
    let said: u64 = before.rsplit(' ').next().unwrap_or_default().parse().context("the size in README.md")?;
    let size = size(&root)? >> 20;
    // More than that is something that should not be in it.
    ensure!(size.abs_diff(said) <= 5, "it has {size} MB; README.md says some {said} MB");
    let binary = fs::read(root.join("usr/local/bin/millrace"))?;
    for section in [&b".symtab\0"[..], b".debug_info\0"] {
        ensure!(!binary.windows(section.len()).any(|found| found == section), "the binary is not stripped");
    }
    Ok(())
}

#[test]
fn bill_of_materials_has_everything_with_its_licence() -> Result<()> {
    let root = setting::image()?;
    let sbom: Value = serde_json::from_slice(&fs::read(root.join("usr/share/doc/millrace/sbom.cdx.json"))?)?;
    ensure!(sbom["bomFormat"] == "CycloneDX" && sbom["specVersion"] == "1.6", "{sbom}");
    let components = sbom["components"].as_array().context("components")?;
    let names: BTreeSet<_> = components.iter().filter_map(|component| component["name"].as_str()).collect();
    for name in
        ["millrace-runtime", "rdkafka-sys", "librocksdb-sys", "wasmtime", "tikv-jemalloc-sys", "guest-wordcount"]
    {
        ensure!(names.contains(name), "{name} is missing");
    }
    for component in components {
        let purl = component["purl"].as_str().context("purl")?;
        ensure!(component["version"].as_str().is_some_and(|version| !version.is_empty()), "{component}");
        let licence = component["licenses"][0]["expression"].as_str().is_some_and(|name| !name.contains('/'));
        ensure!(licence || purl.starts_with("pkg:deb/"), "no licence: {component}");
    }
    // Debian's licences are files.
    for package in fs::read_dir(root.join("var/lib/dpkg/status.d"))? {
        let package = package?.file_name().to_string_lossy().into_owned();
        ensure!(names.contains(&*package), "{package} is missing");
        ensure!(root.join(format!("usr/share/doc/{package}/copyright")).is_file(), "{package} has no copyright file");
    }
    Ok(())
}
