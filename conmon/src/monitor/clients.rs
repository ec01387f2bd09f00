//! The table of connections: who is connected and what each of them waits for.

use conmon::MAX_CLIENTS;
use nostd_sys::Fd;

/// The place of a client or of an exec'd process in its table; a byte, as the tables lie on the
/// stack, which is most of an idle monitor's memory.
pub(super) type Place = u8;

/// The place of the client that asked for the container.
pub(super) const CREATOR: Place = 0;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// Its request has not come.
    Fresh,
    /// The socketpair of the daemon that started this monitor, before `Created`.
    Creator,
    /// It is told of every change.
    Watch,
    /// It waits for the container's start.
    Start,
    /// It waits for the exec'd process in this place.
    Exec(Place),
    /// It takes part in the container's stdio.
    Attach(Attach),
}

impl Role {
    /// Whether its packets may be for the container's stdin.
    pub(super) fn feeds(self) -> bool {
        matches!(self, Self::Attach(Attach { stdin: true, .. }))
    }
}

/// In what an attach takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Attach {
    pub(super) stdin: bool,
    pub(super) stdout: bool,
    pub(super) stderr: bool,
}

struct Client {
    socket: Fd,
    role: Role,
}

pub(super) struct Clients([Option<Client>; MAX_CLIENTS]);

impl Clients {
    pub(super) fn with_creator(socket: Fd) -> Self {
        let mut clients = Self([const { None }; MAX_CLIENTS]);
        clients.0[0] = Some(Client {
            socket,
            role: Role::Creator,
        });
        clients
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.iter().all(Option::is_none)
    }

    /// The sockets to wait for; while the container's stdin is blocked without those that feed it.
    pub(super) fn sockets(&self, stdin_blocked: bool) -> impl Iterator<Item = (Place, &Fd)> {
        self.0.iter().zip(0..).filter_map(move |(client, index)| {
            let client = client.as_ref()?;
            (!(stdin_blocked && client.role.feeds())).then_some((index, &client.socket))
        })
    }

    pub(super) fn role(&self, index: Place) -> Option<Role> {
        self.0
            .get(usize::from(index))?
            .as_ref()
            .map(|client| client.role)
    }

    pub(super) fn set_role(&mut self, index: Place, role: Role) {
        if let Some(Some(client)) = self.0.get_mut(usize::from(index)) {
            client.role = role;
        }
    }

    pub(super) fn socket(&self, index: Place) -> Option<&Fd> {
        self.0
            .get(usize::from(index))?
            .as_ref()
            .map(|client| &client.socket)
    }

    /// The places of the clients with a role.
    pub(super) fn with_role(&self, wanted: fn(Role) -> bool) -> impl Iterator<Item = Place> {
        places().filter(move |index| self.role(*index).is_some_and(wanted))
    }

    pub(super) fn add(&mut self, socket: Fd) -> Result<(), Fd> {
        match self.0.iter_mut().find(|place| place.is_none()) {
            Some(place) => {
                *place = Some(Client {
                    socket,
                    role: Role::Fresh,
                });
                Ok(())
            }
            None => Err(socket),
        }
    }

    pub(super) fn remove(&mut self, index: Place) {
        if let Some(place) = self.0.get_mut(usize::from(index)) {
            *place = None;
        }
    }
}

/// Every place of the table.
pub(super) fn places() -> impl Iterator<Item = Place> {
    (0..).take(MAX_CLIENTS)
}
