//! The layers as a test: nothing but `host` (and the table in `lib.rs`) may know the server, `unsafe` or a clock,
//! and `primitive` may not know `command`, but for its tests.

use std::fs;
use std::path::{Path, PathBuf};

const FORBIDDEN: [&str; 7] =
    ["redis_module", "unsafe", "SystemTime", "Instant::now", "std::net", "std::thread", "crate::host"];

fn sources(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(sources(&path));
        } else if path.extension().is_some_and(|end| end == "rs") {
            files.push(path);
        }
    }
    files
}

/// The code of a file, without comments.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_pure_layers_know_no_server_no_clock_and_nothing_unsafe() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut read = 0;
    for layer in ["primitive", "command"] {
        for file in sources(&src.join(layer)) {
            read += 1;
            let code = code(&file);
            for word in FORBIDDEN {
                assert!(!code.contains(word), "{} says {word}", file.display());
            }
        }
    }
    assert!(read > 20, "only {read} files were found");
}

#[test]
fn the_primitives_do_not_know_the_commands() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/primitive");
    for file in sources(&folder) {
        let is_test = file.components().any(|part| part.as_os_str() == "model_tests");
        assert!(is_test || !code(&file).contains("crate::command"), "{} knows commands", file.display());
    }
}
