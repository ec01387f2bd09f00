//! SPDY/3.1, the server's side of what kubelets, kubectl and crictl speak of it.
//!
//! `frame` and `headers` are bytes to meaning and back; `wire` is the connection's writing side,
//! `stream` one stream's two directions, `incoming` the reading side, `session` the life
//! of a connection.
//! What the streams are for, this room does not know.
//!
//! There is no flow control: the peers that exist (all one Go library) neither send nor heed
//! WINDOW_UPDATE, so neither do we. What a stream's reader has not taken yet waits in the session's
//! `inflow`; when that is full, reading of this connection pauses until a reader takes some, and
//! TCP tells the client. Other connections never notice.

mod error;
mod frame;
mod headers;
mod incoming;
mod session;
mod stream;
mod wire;

pub use headers::Headers;
pub use session::{NewStream, Session};
