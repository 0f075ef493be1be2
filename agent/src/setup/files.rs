//! The files that a setup writes.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

use serde::Deserialize;
use sha2::{Digest, Sha256};

/// What begins the names of the variables that hold what is to be in files.
const CONTENT: &str = "CODESANDBOX_SETUP_FILE_";

/// A file that is to be written.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Planned {
    /// Where, in the workspace unless it is absolute.
    pub(super) path: String,
    /// The file that has what is to be in it; else the variable with its number has it.
    from: Option<PathBuf>,
}

impl Planned {
    /// Writes it, and makes the directories above it.
    pub(super) fn write(&self, number: usize, workspace: &Path) -> io::Result<()> {
        let path = workspace.join(&self.path);
        if let Some(above) = path.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(path, self.content(number)?)
    }

    fn content(&self, number: usize) -> io::Result<Vec<u8>> {
        match &self.from {
            // Not copied as a file: its mode is the volume's.
            Some(from) => fs::read(from),
            None => Ok(env::var(format!("{CONTENT}{number}")).map_err(io::Error::other)?.into()),
        }
    }
}

/// The words of a plan, and what stands for its files: with other contents it is another.
pub(super) fn told(text: &str, files: &[Planned]) -> Vec<u8> {
    let mut told = text.as_bytes().to_vec();
    for (number, file) in files.iter().enumerate() {
        // What cannot be read fails when it is written.
        told.extend(Sha256::digest(file.content(number).unwrap_or_default()));
    }
    told
}
