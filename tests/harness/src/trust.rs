//! Images whose trust is tested: a node with a registry, gpg keys, a lookaside store, and skopeo beside
//! cricket under the same policy.

use std::fs;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::gpg::{Gpg, Lifetime};
use crate::image::{Compression, Image};
use crate::layer::Layer;
use crate::node::Node;
use crate::tools;

/// A node, keys, and a lookaside store in a directory.
#[derive(Debug)]
pub struct Case {
    /// The node.
    pub node: Node,
    /// The keys.
    pub gpg: Gpg,
    /// Directory of public keys.
    pub keys: PathBuf,
    /// The lookaside store.
    pub store: PathBuf,
}

impl Case {
    /// Starts a node whose daemon is `program`, with these lines in its `[crio.image]`.
    pub async fn start(program: &str, image_config: &str) -> Case {
        let mut node = Node::start_with(program, |options| {
            options.image_config = image_config.to_owned();
        })
        .await;
        let (keys, store) = (node.dir().join("keys"), node.dir().join("sigs"));
        fs::create_dir_all(&keys).unwrap();
        fs::create_dir_all(node.daemon.registries_d()).unwrap();
        node.registry();
        let case = Case {
            node,
            gpg: Gpg::new(),
            keys,
            store,
        };
        case.look_aside(&format!("file://{}", case.store.display()));
        case
    }

    /// Says where signatures are.
    pub fn look_aside(&self, base: &str) {
        let file = self.node.daemon.registries_d().join("default.yaml");
        fs::write(file, format!("default-docker:\n  lookaside: {base}\n")).unwrap();
    }

    /// Makes a key: its fingerprint, and the file of its public part (armored but for `good`).
    #[track_caller]
    pub fn key(&self, name: &str, algorithm: &str, lifetime: Lifetime) -> (String, String) {
        let fingerprint = self.gpg.make(name, algorithm, lifetime);
        let file = self.gpg.export(&fingerprint, &self.keys, name != "good");
        (fingerprint, file.display().to_string())
    }

    /// Pushes an image that differs from others by its tag: (name, digest).
    #[track_caller]
    pub fn push(&mut self, repository: &str, tag: &str) -> (String, String) {
        let image = Image::builder()
            .layer(Layer::new().file("f", 0o644, b"same"), Compression::Gzip)
            .set("Labels", json!({"tag": tag, "repository": repository}))
            .build();
        let name = self.node.registry().push(repository, tag, &image);
        (name, image.manifest.digest)
    }

    /// Puts the next signature of a manifest into the store.
    #[track_caller]
    pub fn put(&self, repository: &str, digest: &str, signature: &[u8]) {
        let place = format!("{repository}@{}", digest.replace(':', "="));
        let dir = self.store.join(place);
        fs::create_dir_all(&dir).unwrap();
        let number = fs::read_dir(&dir).unwrap().count() + 1;
        fs::write(dir.join(format!("signature-{number}")), signature).unwrap();
    }

    /// Writes policy.json.
    #[track_caller]
    pub fn set_policy(&self, policy: &Value) {
        fs::write(self.node.daemon.policy_file(), policy.to_string()).unwrap();
    }

    /// `skopeo copy` into a directory, by the node's policy: what it says where it refuses.
    #[track_caller]
    pub fn skopeo(&self, name: &str) -> Result<(), String> {
        let mut command = self.node.net().command(&tools::need("skopeo"));
        command.arg("--policy").arg(self.node.daemon.policy_file());
        let registries_d = self.node.daemon.registries_d();
        command.arg("--registries.d").arg(registries_d);
        let target = tempfile::tempdir().unwrap();
        command.args(["copy", "--quiet", "--src-tls-verify=false"]);
        command.arg(format!("docker://{name}"));
        command.arg(format!("dir:{}", target.path().display()));
        let output = tools::output(&mut command);
        match output.status.success() {
            true => Ok(()),
            false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
        }
    }

    /// A pull by cricket, after which the image is gone again.
    pub async fn pull(&self, name: &str) -> Result<(), String> {
        match self.node.cri.pull(name).await {
            Ok(id) => {
                self.node.cri.remove_image(&id).await.unwrap();
                Ok(())
            }
            Err(status) => Err(status.message().to_owned()),
        }
    }

    /// As [`Node::finish`].
    pub async fn finish(self) {
        self.node.finish().await;
    }
}

/// A policy that refuses all but this registry.
pub fn policy(requirements: &Value) -> Value {
    json!({
        "default": [{"type": "reject"}],
        "transports": {"docker": {"127.0.0.1:5000": requirements}},
    })
}

/// A list with one requirement: simple signatures by the keys in a file.
pub fn signed_by(key: &str) -> Value {
    json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPath": key}])
}

/// As [`signed_by`], with this `signedIdentity`.
pub fn signed_as(key: &str, identity: Value) -> Value {
    let mut requirements = signed_by(key);
    requirements[0]["signedIdentity"] = identity;
    requirements
}
