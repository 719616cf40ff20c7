//! Libraries that a test needs beside the module, built with the machine's C compiler.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::skip;

/// Builds a source that lies in `tests/integration/support` and replies where the library is; nothing, said aloud, where
/// there is no C compiler.
pub(crate) fn shared_object(case: &str, source: &str, dir: &Path) -> Option<PathBuf> {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/integration/support").join(source);
    let library = dir.join(source.file_name().expect("a file")).with_extension("so");
    let mut cc = Command::new("cc");
    cc.args(["-O1", "-shared", "-fPIC", "-o"]).arg(&library).arg(source).arg("-ldl");
    match cc.output() {
        Ok(output) => {
            assert!(output.status.success(), "cc: {}", String::from_utf8_lossy(&output.stderr));
            Some(library)
        }
        Err(error) => {
            skip(case, &format!("no C compiler: {error}"));
            None
        }
    }
}
