//! `millrace new`: writes a topology project that builds and tests. Must not know what a topology
//! is; the template does.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// Write a topology project that builds and tests
#[derive(Debug, clap::Args)]
pub(super) struct NewArgs {
    /// The project's name, or the path of its directory, whose last part is the name
    path: PathBuf,
    /// The directory of the Rust SDK [default: that of the checkout this binary was built from]
    #[arg(long, value_name = "DIR")]
    sdk: Option<PathBuf>,
}

const FILES: &[(&str, &str)] = &[
    ("Cargo.toml", include_str!("template/Cargo.toml")),
    ("src/lib.rs", include_str!("template/lib.rs")),
    ("cases/words.toml", include_str!("template/words.toml")),
    ("millrace.toml", include_str!("template/millrace.toml")),
    ("README.md", include_str!("template/README.md")),
    (".gitignore", include_str!("template/gitignore")),
    ("rust-toolchain.toml", include_str!("template/rust-toolchain.toml")),
];

/// Where the SDK was when this binary was built. There is no registry it could come from.
const BUILT_BESIDE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../sdk");

pub(super) fn run(args: &NewArgs) -> anyhow::Result<()> {
    let name = name(&args.path)?;
    let sdk = sdk(args.sdk.as_deref())?;
    write(&args.path, name, &sdk)?;
    super::print(&format!(
        "wrote {path}; next:\n  cd {path}\n  cargo test\n  cargo build --release --target wasm32-wasip2\n  millrace test target/wasm32-wasip2/release/{module}.wasm cases\n  millrace check\n",
        path = args.path.display(),
        module = name.replace('-', "_"),
    ))
}

/// Cargo makes a crate of it and Kafka part of topic names, so it must be fit for both.
fn name(path: &Path) -> anyhow::Result<&str> {
    const TAKEN: &[&str] = &["core", "std", "alloc", "test", "proc_macro", "proc-macro", "millrace", "build", "deps"];
    const KEYWORDS: &[&str] = &[
        "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn",
        "else", "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro",
        "match", "mod", "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super",
        "trait", "true", "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
    ];
    let Some(name) = path.file_name().and_then(|name| name.to_str()) else {
        bail!("{} names no project: give a name such as `word-counts`", path.display());
    };
    let legal = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '-' | '_');
    if !name.starts_with(|c: char| c.is_ascii_lowercase()) || !name.chars().all(legal) || name.len() > 64 {
        bail!(
            "`{name}` can't be the name of a project: up to 64 of a-z 0-9 - _ and a letter first, such as `word-counts`"
        );
    }
    if TAKEN.contains(&name) || KEYWORDS.contains(&name) {
        bail!(
            "`{name}` can't be the name of a project: it means something else to Rust; add a word, such as `{name}-counts`"
        );
    }
    Ok(name)
}

fn sdk(given: Option<&Path>) -> anyhow::Result<PathBuf> {
    let path = given.unwrap_or(Path::new(BUILT_BESIDE));
    let manifest = path.join("Cargo.toml");
    let is_sdk =
        fs::read_to_string(&manifest).is_ok_and(|text| text.lines().any(|line| line.trim() == "name = \"millrace\""));
    match (is_sdk, given) {
        (true, _) => path.canonicalize().with_context(|| format!("find {}", path.display())),
        (false, Some(_)) => {
            bail!("{} is not the Rust SDK: `--sdk` wants the directory `sdk` of a Millrace checkout", path.display())
        }
        (false, None) => bail!(
            "the checkout this binary was built from is gone: name the directory `sdk` of another one with `--sdk DIR`"
        ),
    }
}

fn write(directory: &Path, name: &str, sdk: &Path) -> anyhow::Result<()> {
    if fs::read_dir(directory).is_ok_and(|mut entries| entries.next().is_some()) {
        bail!("{} exists and is not empty: choose another name, or empty it", directory.display());
    }
    for part in ["src", "cases"] {
        fs::create_dir_all(directory.join(part)).with_context(|| format!("create {}", directory.display()))?;
    }
    let sdk = sdk.to_str().with_context(|| format!("{} is not UTF-8, which a Cargo.toml has to be", sdk.display()))?;
    let sdk = toml::Value::String(sdk.to_owned()).to_string();
    for (file, template) in FILES {
        let text = template
            .replace("\"{{sdk}}\"", &sdk)
            .replace("{{crate}}", &name.replace('-', "_"))
            .replace("{{name}}", name);
        let path = directory.join(file);
        fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_name(path: &str, expected: &str) {
        let found = name(Path::new(path)).map_or_else(|error| error.to_string(), str::to_owned);
        assert!(found.contains(expected), "{path}: {found}");
    }

    #[test]
    fn names() {
        check_name("word-counts", "word-counts");
        check_name("somewhere/else/w2_x", "w2_x");
        for bad in ["Counts", "2counts", "-counts", "word counts", "wörter", "a/b.c", &"x".repeat(65)] {
            check_name(bad, "can't be the name of a project: up to 64");
        }
        for bad in ["test", "fn", "millrace"] {
            check_name(bad, "it means something else to Rust");
        }
        check_name("..", "names no project");
    }

    #[test]
    fn what_is_there_stays() {
        let directory = tempfile::tempdir().expect("make a directory");
        fs::write(directory.path().join("precious"), "").expect("write");
        let error = write(directory.path(), "x", Path::new("/sdk")).expect_err("is not empty").to_string();
        assert!(error.ends_with("exists and is not empty: choose another name, or empty it"), "{error}");
        assert_eq!(fs::read_dir(directory.path()).expect("list").count(), 1);
    }

    #[test]
    fn no_placeholder_is_left() {
        let directory = tempfile::tempdir().expect("make a directory");
        write(&directory.path().join("word-counts"), "word-counts", Path::new("/a \"b\"/sdk")).expect("writes");
        for (file, _) in FILES {
            let text = fs::read_to_string(directory.path().join("word-counts").join(file)).expect("was written");
            assert!(!text.contains("{{") && !text.is_empty(), "{file}: {text}");
        }
        let manifest = fs::read_to_string(directory.path().join("word-counts/Cargo.toml")).expect("was written");
        let manifest: toml::Table = manifest.parse().expect("is TOML");
        assert_eq!(manifest["dependencies"]["millrace"]["path"].as_str(), Some("/a \"b\"/sdk"));
    }

    #[test]
    fn what_is_no_sdk() {
        let directory = tempfile::tempdir().expect("make a directory");
        let error = sdk(Some(directory.path())).expect_err("is none").to_string();
        assert!(error.contains("is not the Rust SDK"), "{error}");
        assert!(sdk(None).expect("is beside us").ends_with("sdk"));
    }
}
