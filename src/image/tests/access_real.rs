//! docker-registry with TLS, a password, client certificates and a token server.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use cricket_harness::certificate::{self, Signed};
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

use super::case::*;
use super::fixture::{Fixture, Reply, Request, answer, serve_content};
use super::real::Registry;
use super::*;

/// A TLS server's configuration.
fn tls(files: &Signed) -> rustls::ServerConfig {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let chain = CertificateDer::pem_file_iter(&files.certificate).unwrap();
    let key = PrivateKeyDer::from_pem_file(&files.key).unwrap();
    rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain.map(Result::unwrap).collect(), key)
        .unwrap()
}

/// A fixture over HTTPS.
pub async fn serve_tls(
    files: &Signed,
    handler: impl Fn(&Request) -> Reply + Send + Sync + 'static,
) -> Fixture {
    Fixture::start_tls(tls(files), handler).await
}

/// certs.d of a node.
fn certs(node: &Node, host: &str) -> PathBuf {
    let dir = node.images.settings.network.certificates[0].join(host);
    std::fs::create_dir_all(&dir).unwrap();
    dir
}

/// Makes `node` trust an authority for one host.
pub fn trust(node: &Node, host: &str, authority: &Path) {
    std::fs::copy(authority, certs(node, host).join("ca.crt")).unwrap();
}

/// A node with a certs.d of its own.
fn node() -> Node {
    let mut base = PathBuf::new();
    let node = Node::with("", |settings| {
        base = settings.trust.policy.parent().unwrap().join("certs.d");
        settings.network.certificates = vec![base.clone(), base.with_extension("docker")];
    });
    std::fs::create_dir_all(base).unwrap();
    node
}

fn section(files: &Signed, more: &str) -> String {
    let (certificate, key) = (files.certificate.display(), files.key.display());
    format!("  tls:\n    certificate: {certificate}\n    key: {key}\n{more}")
}

/// docker-registry with the good image as `app:1`, started again with more configuration.
async fn registry(scheme: &'static str, more: &str) -> Registry {
    let registry = Registry::start();
    registry.push("app", &["1"], &good()).await;
    registry.again(scheme, more)
}

async fn pulled(node: &Node, registry: &Registry, auth: Option<RegistryAuth>) -> Outcome {
    let reference = format!("{}/app:1", registry.address);
    let request = PullRequest {
        auth,
        ..request(&reference)
    };
    node.images.pull(request).await
}

type Outcome = Result<String, ImageError>;

#[tokio::test(flavor = "multi_thread")]
async fn a_hosts_authority_counts_from_the_next_pull_on() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::signed(&dir.path().join("right"));
    let others = certificate::signed(&dir.path().join("wrong"));
    let registry = registry("https", &section(&files, "")).await;
    let node = node();
    let error = pulled(&node, &registry, None).await.unwrap_err();
    let place = format!("/etc/containers/certs.d/{}/ca.crt", registry.address);
    assert!(unavailable(&error), "{error}");
    assert!(error.to_string().contains("UnknownIssuer"), "{error}");
    assert!(error.to_string().contains(&place), "{error}");
    trust(&node, &registry.address, &others.authority);
    let error = pulled(&node, &registry, None)
        .await
        .unwrap_err()
        .to_string();
    let own = certs(&node, &registry.address).display().to_string();
    assert!(
        error.contains("certificate") && error.contains(&own),
        "{error}"
    );
    trust(&node, &registry.address, &files.authority);
    assert_eq!(pulled(&node, &registry, None).await.unwrap(), good().id);
    // docker's directory counts where containers' has none for the host
    let other = self::node();
    let docker = &other.images.settings.network.certificates[1];
    std::fs::create_dir_all(docker.join(&registry.address)).unwrap();
    let file = docker.join(&registry.address).join("any name.crt");
    std::fs::copy(&files.authority, file).unwrap();
    assert_eq!(pulled(&other, &registry, None).await.unwrap(), good().id);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_for_another_name_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::named(dir.path(), "registry.test");
    let registry = registry("https", &section(&files, "")).await;
    let node = node();
    trust(&node, &registry.address, &files.authority);
    let error = pulled(&node, &registry, None).await.unwrap_err();
    assert!(unavailable(&error), "{error}");
    let text = error.to_string();
    assert!(text.contains("certificate not valid for name"), "{text}");
    assert!(text.contains("registry.test"), "{text}");
    // insecure_registries takes it
    let range = ["127.0.0.0/8".to_owned()];
    let node = Node::with("", |settings| {
        settings.network.insecure = InsecureHosts::new(&range);
    });
    assert_eq!(pulled(&node, &registry, None).await.unwrap(), good().id);
}

/// What `openssl req -x509` makes says that it is an authority; Go takes it as a server's too.
#[tokio::test(flavor = "multi_thread")]
async fn a_self_signed_certificate_placed_for_its_host_is_accepted_there() {
    let dir = tempfile::tempdir().unwrap();
    let at = |name: &str| dir.path().join(name);
    let made = |name: &str, subject: &str| {
        let files = Signed {
            authority: at(&format!("{name}.crt")),
            certificate: at(&format!("{name}.crt")),
            key: at(&format!("{name}.key")),
        };
        let line =
            "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=x";
        let made = std::process::Command::new("openssl")
            .args(line.split(' '))
            .arg("-addext")
            .arg(format!("subjectAltName={subject}"))
            .arg("-keyout")
            .arg(&files.key)
            .arg("-out")
            .arg(&files.certificate)
            .output()
            .unwrap();
        assert!(made.status.success());
        files
    };
    for (subject, good_name) in [("IP:127.0.0.1", true), ("DNS:registry.test", false)] {
        let files = made(&subject.replace(':', "-"), subject);
        let registry = registry("https", &section(&files, "")).await;
        let node = node();
        pulled(&node, &registry, None).await.unwrap_err();
        trust(&node, &registry.address, &files.authority);
        let outcome = pulled(&node, &registry, None).await;
        assert_eq!(outcome.is_ok(), good_name, "{subject}: {outcome:?}");
        // it is placed for that host alone
        trust(&node, "other.test", &files.authority);
        std::fs::remove_dir_all(certs(&node, &registry.address)).unwrap();
        pulled(&node, &registry, None).await.unwrap_err();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_certificate_is_shown_to_its_host_and_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::signed(&dir.path().join("server"));
    let ours = certificate::client(&dir.path().join("client"));
    let theirs = certificate::client(&dir.path().join("stranger"));
    let demand = format!("    clientcas:\n      - {}\n", ours.authority.display());
    let registry = registry("https", &section(&files, &demand)).await;
    let node = node();
    trust(&node, &registry.address, &files.authority);
    let error = pulled(&node, &registry, None).await.unwrap_err();
    assert!(unavailable(&error), "{error}");
    let wants = "the registry wants a client certificate: NAME.cert and NAME.key in";
    assert!(error.to_string().contains(wants), "{error}");
    let place = |files: &Signed, name: &str| {
        let dir = certs(&node, &registry.address);
        std::fs::copy(&files.certificate, dir.join(format!("{name}.cert"))).unwrap();
        std::fs::copy(&files.key, dir.join(format!("{name}.key"))).unwrap();
    };
    // of two the one whose authority the server names
    place(&theirs, "a");
    pulled(&node, &registry, None).await.unwrap_err();
    place(&ours, "b");
    assert_eq!(pulled(&node, &registry, None).await.unwrap(), good().id);
    // a key that is missing or another's, and a certificate that is none, are named
    let dir = certs(&node, &registry.address);
    std::fs::copy(&theirs.key, dir.join("b.key")).unwrap();
    let table: [(&dyn Fn(), &str); 4] = [
        (&|| {}, "b.cert: is not the certificate of"),
        (
            &|| std::fs::write(dir.join("b.key"), "x").unwrap(),
            "b.key: no private key in PEM",
        ),
        (
            &|| std::fs::write(dir.join("b.cert"), "x").unwrap(),
            "b.cert: has no certificate",
        ),
        (
            &|| std::fs::remove_file(dir.join("b.key")).unwrap(),
            "no key b.key beside it",
        ),
    ];
    for (spoil, says) in table {
        spoil();
        let error = pulled(&node, &registry, None)
            .await
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(says) && error.contains(&registry.address),
            "{says}: {error}"
        );
    }
}

/// A redirect to a host that asks for a client certificate gets none; the authority counts there.
#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_takes_authorities_along_but_no_client_certificate() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::signed(&dir.path().join("server"));
    let ours = certificate::client(&dir.path().join("client"));
    for demanded in [false, true] {
        let demand = format!("    clientcas:\n      - {}\n", ours.authority.display());
        let store = registry(
            "https",
            &section(&files, if demanded { &demand } else { "" }),
        )
        .await;
        let (content, target) = (good(), store.address.clone());
        let front = serve_tls(&files, move |request| {
            if request.path.contains("/blobs/") {
                let location = format!("https://{target}{}", request.path);
                return Reply::Answer {
                    status: 307,
                    headers: vec![("Location", location)],
                    body: Vec::new(),
                };
            }
            serve_content(&content, request)
        })
        .await;
        let node = node();
        trust(&node, &front.address, &files.authority);
        let place = certs(&node, &front.address);
        std::fs::copy(&ours.certificate, place.join("c.cert")).unwrap();
        std::fs::copy(&ours.key, place.join("c.key")).unwrap();
        let outcome = node.pull(&format!("{}/app:1", front.address)).await;
        assert_eq!(outcome.is_ok(), !demanded, "{outcome:?}");
    }
}

/// A store of signatures is no registry: it gets the authority, and not the client certificate.
#[tokio::test(flavor = "multi_thread")]
async fn a_lookaside_server_sees_no_client_certificate_of_the_registry() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::signed(&dir.path().join("server"));
    let ours = certificate::client(&dir.path().join("client"));
    let signed = r#"{"default":[{"type":"signedBy","keyType":"GPGKeys","keyPath":"/k"}]}"#;
    let content = good();
    let front = serve_tls(&files, move |request| serve_content(&content, request)).await;
    for (demanded, says) in [
        (false, "the image has none"),
        (true, "looking for it failed"),
    ] {
        let demand = format!("    clientcas:\n      - {}\n", ours.authority.display());
        let more = if demanded { &demand } else { "" };
        let store = registry("https", &section(&files, more)).await;
        let node = node();
        trust(&node, &front.address, &files.authority);
        let place = certs(&node, &front.address);
        std::fs::copy(&ours.certificate, place.join("c.cert")).unwrap();
        std::fs::copy(&ours.key, place.join("c.key")).unwrap();
        let (policy, places) = (
            &node.images.settings.trust.policy,
            &node.images.settings.trust.registries_d,
        );
        std::fs::write(policy, signed).unwrap();
        std::fs::create_dir_all(places).unwrap();
        let text = format!(
            "default-docker:\n  lookaside: https://{}/s\n",
            store.address
        );
        std::fs::write(places.join("a.yaml"), text).unwrap();
        let error = node.pull(&format!("{}/app:1", front.address)).await;
        let error = error.unwrap_err().to_string();
        assert!(error.contains(says), "{demanded}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn https_is_not_left_for_http() {
    let dir = tempfile::tempdir().unwrap();
    let files = certificate::signed(dir.path());
    let plain = Fixture::serving(&good()).await;
    let (content, target) = (good(), plain.address.clone());
    let registry = serve_tls(&files, move |request| {
        if request.path.contains("/blobs/") {
            return Reply::Answer {
                status: 302,
                headers: vec![(
                    "Location",
                    format!("http://{target}{}?s3cret", request.path),
                )],
                body: Vec::new(),
            };
        }
        serve_content(&content, request)
    })
    .await;
    let node = node();
    trust(&node, &registry.address, &files.authority);
    let error = node.pull(&format!("{}/app:1", registry.address)).await;
    let error = error.unwrap_err();
    assert!(
        protocol(&error) && error.to_string().contains("not encrypted"),
        "{error}"
    );
    assert!(!error.to_string().contains("s3cret"), "{error}");
    assert!(plain.log().is_empty());
}

fn user(username: &str, password: &str) -> Option<RegistryAuth> {
    Some(RegistryAuth {
        username: username.into(),
        password: password.into(),
        ..RegistryAuth::default()
    })
}

/// user "me", password "s3cret", as `htpasswd -B` writes it.
const HTPASSWD: &str = "me:$2b$05$i8ok060A6TkeFGbJIz/NIecqjwrMsQCi7iF9a.l6FlfxCmknT2lBG\n";

#[tokio::test(flavor = "multi_thread")]
async fn a_password_is_found_where_cri_o_finds_it() {
    let dir = tempfile::tempdir().unwrap();
    let passwords = dir.path().join("htpasswd");
    std::fs::write(&passwords, HTPASSWD).unwrap();
    let auth = format!(
        "auth:\n  htpasswd:\n    realm: x\n    path: {}\n",
        passwords.display()
    );
    let registry = registry("http", &auth).await;
    let global = dir.path().join("global.json");
    let node = Node::with(&insecure(&registry.address), |settings| {
        settings.credentials.global = Some(global.clone());
    });
    let error = pulled(&node, &registry, None).await.unwrap_err();
    assert!(denied(&error), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("looked for in") && text.contains("global.json"),
        "{text}"
    );
    let right = user("me", "s3cret");
    assert_eq!(pulled(&node, &registry, right).await.unwrap(), good().id);
    let error = pulled(&node, &registry, user("me", "wr0ng"))
        .await
        .unwrap_err();
    assert!(denied(&error), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("those of the pull") && !text.contains("wr0ng"),
        "{text}"
    );
    for (password, works) in [("s3cret", true), ("wr0ng", false)] {
        let auth = STANDARD.encode(format!("me:{password}"));
        let key = format!("{}/app", registry.address);
        let json = serde_json::json!({"auths": {&key: {"auth": auth}}});
        std::fs::write(&global, json.to_string()).unwrap();
        match pulled(&node, &registry, None).await {
            Ok(id) => assert!(works && id == good().id),
            Err(error) => {
                let text = error.to_string();
                assert!(!works && text.contains(&format!("{key:?} in ")), "{text}");
            }
        }
    }
}

/// A token that docker-registry accepts: a JWT of ES256 whose certificate it was told to trust.
fn token(files: &Signed, audience: &str, actions: &[&str]) -> String {
    let pem = std::fs::read(&files.key).unwrap();
    let key = PrivateKeyDer::from_pem_slice(&pem).unwrap();
    let random = ring::rand::SystemRandom::new();
    let algorithm = &ECDSA_P256_SHA256_FIXED_SIGNING;
    let key = EcdsaKeyPair::from_pkcs8(algorithm, key.secret_der(), &random).unwrap();
    let certificate = CertificateDer::from_pem_file(&files.certificate).unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let header = serde_json::json!({
        "typ": "JWT", "alg": "ES256", "x5c": [STANDARD.encode(&certificate)],
    });
    let claims = serde_json::json!({
        "iss": "cricket", "sub": "", "aud": audience, "jti": "1",
        "exp": now + 300, "nbf": now - 10, "iat": now - 10,
        "access": [{"type": "repository", "name": "app", "actions": actions}],
    });
    let encode = |json: &serde_json::Value| URL_SAFE_NO_PAD.encode(json.to_string());
    let signed = format!("{}.{}", encode(&header), encode(&claims));
    let signature = key.sign(&random, signed.as_bytes()).unwrap();
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_server_admits_to_docker_registry() {
    let dir = tempfile::tempdir().unwrap();
    let signer = certificate::signed(dir.path());
    let tokens = {
        let files = Signed {
            authority: signer.authority.clone(),
            certificate: signer.certificate.clone(),
            key: signer.key.clone(),
        };
        let right = format!("Basic {}", STANDARD.encode("me:s3cret"));
        Fixture::start(move |request| {
            let shown = request
                .headers
                .get("authorization")
                .map_or("", String::as_str);
            let scope = request.path.contains("scope=repository%3Aapp%3Apull");
            match shown == right && scope && request.path.contains("service=fixture") {
                true => {
                    let token = token(&files, "fixture", &["pull"]);
                    answer(200, serde_json::json!({"access_token": token}).to_string())
                }
                false => answer(401, ""),
            }
        })
        .await
    };
    let auth = format!(
        "auth:\n  token:\n    realm: http://{}/token\n    service: fixture\n    issuer: cricket\n    \
         rootcertbundle: {}\n",
        tokens.address,
        signer.authority.display()
    );
    let registry = registry("http", &auth).await;
    let node = Node::insecure(&registry.address);
    let error = pulled(&node, &registry, None).await.unwrap_err();
    assert!(
        denied(&error) && error.to_string().contains("token from"),
        "{error}"
    );
    let right = user("me", "s3cret");
    assert_eq!(pulled(&node, &registry, right).await.unwrap(), good().id);
    assert_eq!(tokens.log().len(), 2, "one for each pull");
}
