//! Reads the instructions of the Dockerfile's last stage, so that a pod here runs what a container would.

use std::fs;

use anyhow::{Context, Result, ensure};

use crate::setting;

pub struct Dockerfile {
    /// Instruction and arguments, lines that go on joined.
    pub instructions: Vec<(String, String)>,
}

impl Dockerfile {
    pub fn read() -> Result<Self> {
        let text = fs::read_to_string(setting::project().join("Dockerfile")).context("read the Dockerfile")?;
        let lines = text.replace("\\\n", " ");
        let lines = lines.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let instructions = lines.map(|line| {
            let (name, rest) =
                line.split_once(' ').with_context(|| format!("an instruction without arguments: {line}"))?;
            Ok((name.to_owned(), rest.split_whitespace().collect::<Vec<_>>().join(" ")))
        });
        Ok(Self { instructions: instructions.collect::<Result<_>>()? })
    }

    /// The arguments of an instruction of the last stage.
    pub fn last(&self, name: &str) -> Result<&str> {
        let stage = self.instructions.iter().rposition(|(name, _)| name == "FROM").context("there is no FROM")?;
        let mut found = self.instructions[stage..].iter().filter(|(found, _)| found == name);
        let (_, arguments) = found.next().with_context(|| format!("the last stage has no {name}"))?;
        ensure!(found.next().is_none(), "the last stage has several {name}");
        Ok(arguments)
    }

    /// What a container runs if nothing else is said: ENTRYPOINT and CMD, which have to be lists.
    pub fn command(&self) -> Result<Vec<String>> {
        let mut command: Vec<String> = serde_json::from_str(self.last("ENTRYPOINT")?).context("ENTRYPOINT")?;
        command.extend(serde_json::from_str::<Vec<String>>(self.last("CMD")?).context("CMD")?);
        Ok(command)
    }
}
