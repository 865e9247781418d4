//! What is known of one name: as small as it can be, because there is one for each name of each stream.

use std::sync::Arc;

use crate::snapshot::Version;

/// What the client may hold of a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Holds {
    Nothing,
    /// We sent it, or the client said so when it connected.
    This(Version),
    /// Anything: it was part of a response that was rejected, or the client asks for it again.
    Unknown,
}

/// [`Holds`] without its version, which would take as much room again for the difference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The client is not known to have ever had to do with it.
    Untold,
    Nothing,
    This,
    Unknown,
}

/// One name of one stream.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) name: Arc<str>,
    version: Version,
    kind: Kind,
    /// The client asked for it by its name. Written by the table, which counts these.
    pub(super) named: bool,
    /// It has to be looked at. Written by the table, which queues these.
    pub(super) due: bool,
    /// What it holds it has accepted.
    pub(super) acked: bool,
    pub(super) told_missing: bool,
    pub(super) sent_here: bool,
    /// Of the last response that spoke of it.
    pub(super) response: u16,
}

impl Row {
    pub(super) fn new(name: Arc<str>) -> Self {
        Self {
            name,
            version: Version::default(),
            kind: Kind::Untold,
            named: false,
            due: false,
            acked: false,
            told_missing: false,
            sent_here: false,
            response: 0,
        }
    }

    /// The same name, as others have it.
    pub(super) fn share(&mut self, name: &Arc<str>) {
        if !Arc::ptr_eq(&self.name, name) {
            self.name = name.clone();
        }
    }

    /// Whether the client may have to do with it.
    pub(super) fn is_held(&self) -> bool {
        self.kind != Kind::Untold
    }

    pub(super) fn holds(&self) -> Holds {
        match self.kind {
            Kind::Untold | Kind::Nothing => Holds::Nothing,
            Kind::This => Holds::This(self.version),
            Kind::Unknown => Holds::Unknown,
        }
    }

    pub(super) fn set(&mut self, holds: Holds) {
        self.kind = match holds {
            Holds::Nothing => Kind::Nothing,
            Holds::This(version) => {
                self.version = version;
                Kind::This
            }
            Holds::Unknown => Kind::Unknown,
        };
    }

    /// As if the client had never heard of it from us.
    pub(super) fn renew(&mut self, holds: Holds) {
        self.set(holds);
        (self.acked, self.told_missing, self.sent_here) = (false, false, false);
    }

    /// The client has nothing to do with it any more.
    pub(super) fn release(&mut self) {
        self.renew(Holds::Nothing);
        self.kind = Kind::Untold;
    }

    pub(super) fn is_vacant(&self) -> bool {
        !self.named && !self.due && !self.is_held()
    }
}
