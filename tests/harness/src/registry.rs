//! A registry that behaves: `docker-registry`, which nobody here wrote. The demo makes do with our
//! own fixture where it is not installed. Either listens on loopback inside a [`Net`].

use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use crate::hostile::Fixture;
use crate::http;
use crate::image::{Blob, Image};
use crate::net::Net;
use crate::tools;

/// How long the registry may take to open its port; it takes 50 ms.
const READY_TIMEOUT: Duration = Duration::from_secs(60);

/// A running registry; ended when dropped.
#[derive(Debug)]
pub struct Registry {
    net: Arc<Net>,
    address: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Docker(Child),
    Fixture(Fixture),
}

impl Registry {
    /// Starts docker-registry on `port` inside `net` (0: any), with its storage in `dir`.
    #[track_caller]
    pub fn start(net: &Arc<Net>, port: u16, dir: &Path) -> Registry {
        let program = tools::docker_registry().expect("docker-registry: `make deps` sees to it");
        Registry::run(&program, net, port, dir, "")
    }

    /// As [`Registry::start`], over HTTPS: (certificate, key). Nothing can be pushed to it from
    /// here; it serves what one over HTTP was given before in the same `dir`.
    #[track_caller]
    pub fn start_tls(net: &Arc<Net>, port: u16, dir: &Path, files: (&Path, &Path)) -> Registry {
        let program = tools::docker_registry().expect("docker-registry: `make deps` sees to it");
        let (certificate, key) = (files.0.display(), files.1.display());
        let tls = format!(", tls: {{certificate: {certificate}, key: {key}}}");
        Registry::run(&program, net, port, dir, &tls)
    }

    /// As [`Registry::start`], but our own fixture where docker-registry is not installed:
    /// [`Registry::kind`] tells.
    #[track_caller]
    pub fn start_any(net: &Arc<Net>, port: u16, dir: &Path) -> Registry {
        if let Some(program) = tools::docker_registry() {
            return Registry::run(&program, net, port, dir, "");
        }
        let fixture = Fixture::start(net, port);
        Registry {
            net: Arc::clone(net),
            address: fixture.address(),
            kind: Kind::Fixture(fixture),
        }
    }

    #[track_caller]
    fn run(program: &Path, net: &Arc<Net>, port: u16, dir: &Path, tls: &str) -> Registry {
        let net = Arc::clone(net);
        let config = dir.join("registry.yml");
        std::fs::create_dir_all(dir).unwrap();
        std::fs::write(&config, docker_config(port, dir, tls)).unwrap();
        let mut command = net.command(program);
        command
            .arg("serve")
            .arg(&config)
            // Version 3 sends traces to localhost otherwise.
            .env("OTEL_TRACES_EXPORTER", "none")
            .stdin(Stdio::null())
            .stdout(Stdio::null());
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let port = listening_port(child.stderr.take().unwrap());
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        Registry {
            net,
            address,
            kind: Kind::Docker(child),
        }
    }

    /// `127.0.0.1:PORT`, as it stands at the head of a reference.
    pub fn host(&self) -> String {
        self.address.to_string()
    }

    /// `127.0.0.1:PORT/REPOSITORY`, to be followed by `:tag` or `@digest`.
    pub fn name(&self, repository: &str) -> String {
        format!("{}/{repository}", self.address)
    }

    /// Which program it is, for the reader of the demo.
    pub fn kind(&self) -> &'static str {
        match self.kind {
            Kind::Docker(_) => "docker-registry",
            Kind::Fixture(_) => "fixture-registry (no docker-registry here)",
        }
    }

    /// Stores an image under `repository:tag` and returns its full name.
    #[track_caller]
    pub fn push(&self, repository: &str, tag: &str, image: &Image) -> String {
        for blob in image.blobs() {
            self.push_blob(repository, blob);
        }
        self.push_manifest(repository, tag, &image.manifest);
        format!("{}:{tag}", self.name(repository))
    }

    /// Stores an index and the images it lists.
    #[track_caller]
    pub fn push_index(&self, repository: &str, tag: &str, images: &[(&str, &Image)]) -> Blob {
        for (_, image) in images {
            for blob in image.blobs() {
                self.push_blob(repository, blob);
            }
            self.push_manifest(repository, &image.manifest.digest, &image.manifest);
        }
        let index = Image::index(images);
        self.push_manifest(repository, tag, &index);
        index
    }

    #[track_caller]
    fn push_blob(&self, repository: &str, blob: &Blob) {
        if let Kind::Fixture(fixture) = &self.kind {
            return fixture.put_blob(repository, blob);
        }
        let uploads = format!("/v2/{repository}/blobs/uploads/");
        let started = self.call("POST", &uploads, &[], b"");
        assert_eq!(started.status, 202, "POST {uploads}: {started:?}");
        let location = started.headers.iter().find(|(name, _)| name == "location");
        let location = &location.expect("an upload has a location").1;
        let location = location
            .split_once("/v2/")
            .map_or(location.as_str(), |(_, path)| path);
        let joiner = if location.contains('?') { '&' } else { '?' };
        let target = format!("/v2/{location}{joiner}digest={}", blob.digest);
        let octets = [("Content-Type", "application/octet-stream")];
        let stored = self.call("PUT", &target, &octets, &blob.bytes);
        assert_eq!(stored.status, 201, "PUT {target}: {stored:?}");
    }

    /// Stores a manifest or index alone; what it refers to must be there.
    #[track_caller]
    pub fn push_manifest(&self, repository: &str, reference: &str, manifest: &Blob) {
        if let Kind::Fixture(fixture) = &self.kind {
            return fixture.put_manifest(repository, reference, manifest);
        }
        let target = format!("/v2/{repository}/manifests/{reference}");
        let headers = [("Content-Type", manifest.media_type.as_str())];
        let stored = self.call("PUT", &target, &headers, &manifest.bytes);
        assert_eq!(stored.status, 201, "PUT {target}: {stored:?}");
    }

    #[track_caller]
    fn call(
        &self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> http::Response {
        let stream = self.net.connect(self.address).unwrap();
        http::call(stream, method, target, headers, body)
            .unwrap_or_else(|error| panic!("{method} {target}: {error}"))
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        if let Kind::Docker(child) = &mut self.kind {
            // Already gone is as good: both calls then report what `wait` knows.
            drop(child.kill());
            drop(child.wait());
        }
    }
}

fn docker_config(port: u16, dir: &Path, tls: &str) -> String {
    format!(
        "version: 0.1\nlog: {{level: info, accesslog: {{disabled: true}}}}\n\
         storage: {{filesystem: {{rootdirectory: {}}}, delete: {{enabled: true}}}}\n\
         http: {{addr: 127.0.0.1:{port}{tls}}}\n",
        dir.join("data").display()
    )
}

/// The port in the line that docker-registry logs once it listens. The log is read to its end on a
/// thread, so that the registry never blocks on it.
#[track_caller]
fn listening_port(log: impl Read + Send + 'static) -> u16 {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let rest = line
                .split_once("listening on 127.0.0.1:")
                .map(|(_, rest)| rest.to_owned());
            // Nobody listens any more once the port is known.
            drop(sender.send(rest.ok_or(line)));
        }
    });
    let mut seen = Vec::new();
    while let Ok(line) = receiver.recv_timeout(READY_TIMEOUT) {
        match line {
            Ok(rest) => {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse().unwrap();
            }
            Err(other) => seen.push(other),
        }
    }
    panic!(
        "docker-registry opened no port; it said:\n{}",
        seen.join("\n")
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::image::architecture;
    use crate::samples;

    #[test]
    fn both_registries_give_back_what_was_pushed() {
        let dir = tempfile::tempdir().unwrap();
        let net = Arc::new(Net::create(dir.path().join("net")));
        let image = samples::busybox();
        let real = Registry::start(&net, 0, &dir.path().join("registry"));
        let fixture = Fixture::start(&net, 0);
        let (address, kind) = (fixture.address(), Kind::Fixture(fixture));
        let ours = Registry {
            net: Arc::clone(&net),
            address,
            kind,
        };
        for registry in [real, ours] {
            registry.push("busybox", "latest", image);
            let index = registry.push_index("many", "1", &[(architecture(), image)]);
            let blob = format!("/v2/busybox/blobs/{}", image.layers[0].digest);
            let cases = [
                ("/v2/busybox/manifests/latest", &image.manifest),
                ("/v2/many/manifests/1", &index),
                (&blob, &image.layers[0]),
            ];
            for (target, expected) in cases {
                let accept = [("Accept", expected.media_type.as_str())];
                let response = registry.call("GET", target, &accept, b"");
                assert_eq!(response.status, 200, "{} {target}", registry.kind());
                assert!(
                    response.body == *expected.bytes,
                    "{} {target}",
                    registry.kind()
                );
            }
        }
    }
}
