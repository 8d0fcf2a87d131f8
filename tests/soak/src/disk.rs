//! A small disk of an instance that can be filled up and freed again. Needs root.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What mounts are called, so that those of a killed run are found.
const NAME: &str = "millrace-soak";
const SIZE: &str = "size=256m";

pub(crate) struct Disk {
    path: PathBuf,
}

impl Disk {
    pub(crate) fn mount(path: &Path) -> Result<Self> {
        fs::create_dir_all(path).with_context(|| format!("create {}", path.display()))?;
        let name = format!("{NAME}-{}", std::process::id());
        let mut command = Command::new("mount");
        run(command.args(["-t", "tmpfs", "-o", SIZE, &name]).arg(path))?;
        Ok(Self { path: path.to_owned() })
    }

    /// Takes all the room that is left.
    pub(crate) fn fill(&self) -> Result<()> {
        let mut file = File::create(self.filler()).context("create the filler")?;
        let block = vec![b'x'; 1 << 16];
        let mut size = block.len();
        while size > 0 {
            match file.write(&block[..size]) {
                Ok(_) => {}
                // The last bytes too, or a small write would still find room.
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => return Err(error).context("fill the disk"),
            }
        }
        Ok(())
    }

    pub(crate) fn free(&self) -> Result<()> {
        fs::remove_file(self.filler()).context("remove the filler")
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        unmount(&self.path);
    }
}

/// Unmounts the disks of runs that were killed.
pub(crate) fn sweep() -> Result<()> {
    for line in fs::read_to_string("/proc/mounts").context("read the list of mounts")?.lines() {
        let mut words = line.split(' ');
        let (name, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let run = name.strip_prefix(NAME).and_then(|rest| rest.strip_prefix('-'));
        if run.is_some_and(|run| fs::read_to_string(format!("/proc/{run}/comm")).map_or(true, |c| c.trim() != NAME)) {
            unmount(Path::new(path));
        }
    }
    Ok(())
}

fn unmount(path: &Path) {
    // Lazily: somebody may be looking at it.
    if let Err(error) = run(Command::new("umount").arg("-l").arg(path)) {
        eprintln!("{error:#}");
    }
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("run {}", command.get_program().display()))?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
