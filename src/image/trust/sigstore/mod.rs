//! `sigstoreSigned`: signatures as cosign makes them and registries keep them.
//!
//! `requirement` is the policy's text, `roots` what it trusts, `attachment` what a registry has;
//! `payload`, `rekor`, `certificate`, `key` and `pem` read one format each. Which requirement applies
//! and what an identity matches is the rest of `trust/`.
//!
//! All of it is offline: keys, authorities and logs are the policy's, and there is no TUF. The
//! bundles that newer cosigns attach as referrers are not read, as in containers/image 5.42.

mod attachment;
mod certificate;
mod key;
mod payload;
mod pem;
mod rekor;
mod requirement;
mod roots;
