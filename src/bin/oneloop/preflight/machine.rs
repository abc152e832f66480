//! The files in which Linux says what it has.

use std::fs;
use std::path::PathBuf;

/// A machine; in tests, a folder that looks like one.
pub(super) struct Machine {
    root: PathBuf,
}

impl Machine {
    pub(super) fn this() -> Self {
        Self::at("/".into())
    }

    pub(super) fn at(root: PathBuf) -> Self {
        Self { root }
    }

    /// The text of a file.
    ///
    /// # Errors
    ///
    /// A sentence with the name of the file.
    pub(super) fn text(&self, path: &str) -> Result<String, String> {
        let path = self.root.join(path);
        fs::read_to_string(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))
    }

    /// The numbers in a file, `N` of them at least.
    ///
    /// # Errors
    ///
    /// As of [`text`](Self::text).
    pub(super) fn numbers<const N: usize>(&self, path: &str) -> Result<[u64; N], String> {
        let text = self.text(path)?;
        let mut numbers = text.split_whitespace().map_while(|word| word.parse().ok());
        let found: Vec<u64> = numbers.by_ref().take(N).collect();
        found.try_into().map_err(|_| {
            let path = self.root.join(path);
            format!("cannot read {}: it says {:?}, not {N} numbers", path.display(), text.trim())
        })
    }

    /// Whether there is such a file.
    pub(super) fn has(&self, path: &str) -> bool {
        self.root.join(path).exists()
    }
}
