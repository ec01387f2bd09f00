//! Stand-ins for the images that critest pulls, made of this machine's programs.
//!
//! critest names its images by constants below three registries. What its specs need of them:
//! applets as hard links, so that masking `/bin/ls` masks that one alone; a shell that runs
//! `/bin/ls` and not an applet inside itself, and says "Permission denied" as busybox does; real
//! `ipcs` and `pgrep`; a real nginx with its process title and pid file; a setuid `/nnp`; users and
//! groups; tags that are, and are not, one image.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cricket_harness::image::{Compression, Image, architecture};
use cricket_harness::registry::Registry;
use cricket_harness::tools;
use serde_json::{Value, json};

use crate::programs::Root;

/// What critest's references begin with.
const REGISTRIES: [&str; 3] = [
    "registry.k8s.io",
    "gcr.io/k8s-staging-cri-tools",
    "k8s.gcr.io",
];

/// Lines for registries.conf: critest's registries are repositories of the one on `host`.
pub fn mirrors(host: &str) -> String {
    let entry = |name: &&str| {
        format!(
            "\n[[registry]]\nprefix = \"{name}\"\nlocation = \"{host}/{name}\"\ninsecure = true\n"
        )
    };
    REGISTRIES.iter().map(entry).collect()
}

/// All images, (repository, tag, image).
pub fn all(work: &Path) -> Vec<(String, &'static str, Image)> {
    let busybox = busybox(work).into_tar();
    let plain = |name: &str| build(&busybox, &[("Labels", json!({"stand-in": name}))]);
    let nginx = nginx(&busybox, 80);
    let e2e = |name: &str| format!("registry.k8s.io/e2e-test-images/{name}");
    let staging = |name: &str| format!("gcr.io/k8s-staging-cri-tools/{name}");
    let pause = build(&busybox, &[("Cmd", json!(["sleep", "infinity"]))]);
    let mut images = vec![
        (e2e("busybox"), "1.29-2", plain("busybox")),
        (e2e("nginx"), "1.14-2", nginx),
        (e2e("httpd"), "2.4.39-4", httpd(&busybox)),
        (e2e("nonewprivs"), "1.3", no_new_privs(&busybox, work)),
        ("registry.k8s.io/pause".into(), "3.9", pause.clone()),
        ("k8s.gcr.io/pause".into(), "3.9", pause),
        (
            staging(&format!("hostnet-nginx-{}", architecture())),
            "latest",
            self::nginx(&busybox, 12003),
        ),
        (
            staging("test-image-predefined-group"),
            "latest",
            build(&busybox, &[("User", "1000".into())]),
        ),
        (
            staging("test-image-latest"),
            "latest",
            plain("test-image-latest"),
        ),
        (staging("test-image-tag"), "test", plain("tag test")),
        (staging("test-image-tag"), "all", plain("tag all")),
    ];
    for number in ["1", "2", "3"] {
        let name = format!("test-image-{number}");
        images.push((staging(&name), "latest", plain(&name)));
        images.push((staging("test-image-tags"), number, plain("three tags")));
    }
    for (name, user) in [
        ("uid", "1002"),
        ("username", "www-data"),
        ("uid-group", "1003:users"),
        ("username-group", "www-data:100"),
    ] {
        let image = build(&busybox, &[("User", user.into())]);
        images.push((staging(&format!("test-image-user-{name}")), "latest", image));
    }
    images
}

/// Pushes [`all`].
pub fn push(registry: &Registry, images: &[(String, &'static str, Image)]) {
    for (repository, tag, image) in images {
        registry.push(repository, tag, image);
    }
}

fn build(base: &[u8], config: &[(&str, Value)]) -> Image {
    let builder = Image::builder().tar(base.to_vec(), Compression::None);
    let set = |builder: cricket_harness::image::Builder, (field, value): &(&str, Value)| {
        builder.set(field, value.clone())
    };
    config.iter().fold(builder, set).build()
}

fn build_on(base: &[u8], upper: Root, config: &[(&str, Value)]) -> Image {
    let builder = Image::builder()
        .tar(base.to_vec(), Compression::None)
        .tar(upper.into_tar(), Compression::None);
    let builder = config.iter().fold(builder, |builder, (field, value)| {
        builder.set(field, value.clone())
    });
    builder.build()
}

/// The base of all.
fn busybox(work: &Path) -> Root {
    let program = plain_busybox(work);
    let applets = tools::run(Command::new(&program).arg("--list"));
    let mut root = Root::new();
    for dir in [
        "dev", "home", "proc", "root", "run", "sys", "usr/bin", "usr/sbin", "var/log", "var/run",
    ] {
        root = root.dir(Path::new(dir), 0o755);
    }
    root = root
        .dir(Path::new("tmp"), 0o1777)
        .file("etc/passwd", 0o644, PASSWD.as_bytes())
        .file("etc/group", 0o644, GROUP.as_bytes())
        .file("www/index.html", 0o644, b"<p>It works.</p>\n");
    // First come first: their applets of that name are left out.
    for real in ["ipcs", "pgrep"] {
        root = root.program(&format!("bin/{real}"), &tools::need(real));
    }
    root = root.program("bin/busybox", &program);
    for applet in applets.lines().filter(|name| !name.contains('/')) {
        root = root.link(&format!("bin/{applet}"), "bin/busybox");
    }
    root
}

const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n\
                      www-data:x:33:33:www-data:/var/www:/bin/false\n\
                      default-user:x:1000:1000::/home:/bin/sh\n\
                      nobody:x:65534:65534:nobody:/:/bin/false\n";
const GROUP: &str = "root:x:0:\nwww-data:x:33:\nusers:x:100:\ndefault-user:x:1000:\n\
                     group-defined-in-image:x:50000:default-user\nnogroup:x:65534:\n";

/// A busybox whose shell looks for `ls` in $PATH: the machine's, else the one that
/// tests/conformance/busybox.sh unpacked. Debian's busybox-static has its applets built in.
fn plain_busybox(work: &Path) -> PathBuf {
    let candidates = [
        tools::find("busybox"),
        Some(work.join("busybox/bin/busybox")),
        Some(work.join("busybox/usr/bin/busybox")),
    ];
    let plain = |program: &PathBuf| {
        let mut shell = Command::new(program);
        shell.args(["sh", "-c", "ls /"]).env("PATH", "/nonexistent");
        program.is_file()
            && shell
                .stderr(Stdio::null())
                .output()
                .is_ok_and(|output| !output.status.success())
    };
    let found = candidates.into_iter().flatten().find(plain);
    found.expect("no busybox here whose shell takes programs from $PATH: tests/conformance/busybox.sh sees to one")
}

/// nginx in the foreground, with its master's title and `/var/run/nginx.pid`.
fn nginx(base: &[u8], port: u16) -> Image {
    let config = format!(
        "user www-data;\npid /var/run/nginx.pid;\nerror_log stderr;\nworker_processes 1;\n\
         events {{}}\nhttp {{\n  access_log off;\n  client_body_temp_path /tmp/body;\n  \
         proxy_temp_path /tmp/proxy;\n  fastcgi_temp_path /tmp/fastcgi;\n  \
         uwsgi_temp_path /tmp/uwsgi;\n  scgi_temp_path /tmp/scgi;\n  \
         server {{ listen {port}; root /www; }}\n}}\n"
    );
    let upper = Root::new()
        .program("usr/sbin/nginx", &tools::need("nginx"))
        .dir(Path::new("var/log/nginx"), 0o755)
        .dir(Path::new("var/lib/nginx"), 0o755)
        .file("etc/nginx/nginx.conf", 0o644, config.as_bytes());
    let command = json!(["nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon off;"]);
    build_on(base, upper, &[("Cmd", command)])
}

/// A web server whose log says "httpd", as Apache's does at its start.
fn httpd(base: &[u8]) -> Image {
    let script = "echo httpd: serving on port 80; exec httpd -f -p 80 -h /www";
    build(base, &[("Cmd", json!(["sh", "-c", script]))])
}

/// A setuid program that tells its effective uid.
fn no_new_privs(base: &[u8], work: &Path) -> Image {
    let source = tools::workspace().join("tests/conformance/nnp.c");
    // Nodes start side by side.
    let program = work.join(format!("nnp-{}", std::process::id()));
    let mut compiler = Command::new(tools::need("cc"));
    tools::run(
        compiler
            .arg("-static")
            .arg("-Os")
            .arg("-o")
            .arg(&program)
            .arg(source),
    );
    let bytes =
        std::fs::read(&program).unwrap_or_else(|error| panic!("{}: {error}", program.display()));
    drop(std::fs::remove_file(&program));
    let upper = cricket_harness::layer::Layer::new().file("nnp", 0o4755, &bytes);
    Image::builder()
        .tar(base.to_vec(), Compression::None)
        .layer(upper, Compression::None)
        .set("Cmd", json!(["/nnp"]))
        .build()
}
