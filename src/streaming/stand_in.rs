//! Until branches spdy and life are merged: the doors that they bring.

use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};

use super::StreamRequest;
use crate::container::{Containers, Input, Output};
use crate::sandbox::Sandboxes;

#[derive(Debug, Clone)]
pub struct Rooms {
    pub containers: Arc<Containers>,
    pub sandboxes: Arc<Sandboxes>,
}

#[derive(Debug, Clone, Copy)]
pub struct Limits {
    pub idle: Duration,
    pub creation: Duration,
}

pub struct Channels {
    pub stdin: Option<Input>,
    pub stdout: Option<Output>,
    pub stderr: Option<Output>,
    pub error: Output,
    pub resize: Option<Input>,
}

pub async fn run_command(_: StreamRequest, _: Channels, _: &str, _: &Rooms) {}

pub async fn forward_one(_: &Rooms, _: &str, _: u16, _: (Input, Output), _: Output) {}

pub async fn over_spdy<Io>(_io: Io, _protocol: &str, _: StreamRequest, _: &Rooms, _: Limits)
where
    Io: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
}
