//! The files in the tree that are printed by the program: each must be what it prints now.

use std::path::Path;

use clap_complete::Shell;

use super::{completion, man};

/// Path in the tree and contents.
fn files() -> Vec<(&'static str, Vec<u8>)> {
    vec![
        ("completions/cricket.bash", completion::script(Shell::Bash)),
        ("completions/cricket.fish", completion::script(Shell::Fish)),
        ("completions/_cricket", completion::script(Shell::Zsh)),
        ("docs/cricket.8", man::page().unwrap()),
        (
            "docs/crio.conf.5",
            crate::config::manual_page().into_bytes(),
        ),
        (
            "contrib/crio.conf",
            crate::config::default_file().into_bytes(),
        ),
    ]
}

#[test]
fn generated_files_are_up_to_date() {
    let tree = Path::new(env!("CARGO_MANIFEST_DIR"));
    let write = std::env::var_os("CRICKET_REGENERATE").is_some();
    for (name, expected) in files() {
        let path = tree.join(name);
        if write {
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(&path, &expected).unwrap();
        }
        let found = std::fs::read(&path).unwrap_or_default();
        assert!(
            found == expected,
            "{name} is not what the program prints; write it with\n    \
             CRICKET_REGENERATE=1 cargo test --bin cricket generated_files"
        );
    }
}
