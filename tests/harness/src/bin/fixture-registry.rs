//! The fixture registry as a program: `fixture-registry [ADDRESS]` serves a busybox image as
//! `busybox:latest` until it is ended. For machines without docker-registry, and for trying
//! cricket by hand.

use std::net::TcpListener;

use cricket_harness::hostile::Fixture;
use cricket_harness::samples;

fn main() -> std::io::Result<()> {
    let address = std::env::args()
        .nth(1)
        .unwrap_or_else(|| "127.0.0.1:5000".into());
    let fixture = Fixture::serve(TcpListener::bind(&address)?);
    println!(
        "serving {}",
        fixture.push("busybox", "latest", samples::busybox())
    );
    loop {
        std::thread::park();
    }
}
