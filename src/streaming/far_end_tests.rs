//! The far end of streams, for tests of what goes between: a shell of four words, and ports of
//! loopback.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::rooms::FarEnds;
use crate::container::{ContainerError, Streams};
use crate::sandbox::SandboxError;

/// Does what it is told with the streams it gets.
pub struct FarEnd;

impl FarEnds for FarEnd {
    async fn exec(
        &self,
        container: &str,
        command: &[String],
        terminal: bool,
        streams: Streams,
    ) -> Result<i32, ContainerError> {
        let Streams {
            stdin,
            stdout,
            stderr,
            resize,
        } = streams;
        match command[0].as_str() {
            // Standard input to standard output, and its length to standard error.
            "cat" => {
                let mut output = stdout.unwrap();
                let copied = tokio::io::copy(&mut stdin.unwrap(), &mut output)
                    .await
                    .unwrap();
                output.shutdown().await.unwrap();
                let mut errors = stderr.unwrap();
                errors
                    .write_all(copied.to_string().as_bytes())
                    .await
                    .unwrap();
                errors.shutdown().await.unwrap();
                Ok(0)
            }
            // The sizes of the terminal, as many as are asked for.
            "sizes" => {
                assert!(terminal, "resize is for terminals");
                let (mut sizes, mut output) = (resize.unwrap(), stdout.unwrap());
                for _ in 0..command[1].parse().unwrap() {
                    let size = sizes.recv().await.unwrap();
                    let line = format!("{}x{} ", size.width, size.height);
                    output.write_all(line.as_bytes()).await.unwrap();
                }
                output.shutdown().await.unwrap();
                Ok(0)
            }
            "exit" => Ok(command[1].parse().unwrap()),
            // Ends when the client does.
            "wait" => {
                std::future::pending::<()>().await;
                Ok(0)
            }
            _ => Err(ContainerError::Invalid {
                field: container.to_owned(),
                problem: "no such command".to_owned(),
            }),
        }
    }

    async fn attach(&self, _: &str, streams: Streams) -> Result<(), ContainerError> {
        let mut output = streams.stdout.unwrap();
        output.write_all(b"attached").await.unwrap();
        output.shutdown().await.unwrap();
        Ok(())
    }

    async fn dial(&self, _: &str, port: u16) -> Result<TcpStream, SandboxError> {
        TcpStream::connect((Ipv4Addr::LOCALHOST, port))
            .await
            .map_err(|source| SandboxError::Io {
                step: "connect to",
                path: PathBuf::from(port.to_string()),
                source,
            })
    }
}

/// A port of loopback that answers each connection with what it got, once that has ended.
pub async fn echo() -> u16 {
    let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
        .await
        .unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut received = Vec::new();
                connection.read_to_end(&mut received).await.unwrap();
                connection.write_all(&received).await.unwrap();
            });
        }
    });
    port
}
