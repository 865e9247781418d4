//! Which framework wrote a record, and what the record says.
//!
//! Pure. What other registries hold in the same form is read by `crate::layout`.

mod detect;
mod dubbo_app;
mod go_zero;
mod grpc;
mod jupiter;
mod kitex;
mod skydns;
#[cfg(test)]
mod tests;

use std::fmt;

use leadsman_core::model::Provenance;

pub(super) use crate::layout::Decoded;
use crate::layout::choice::{Choice, Layouts};
use crate::layout::entry::{Entry, below};
use crate::layout::{Reading, dubbo_interface, finish, go_micro, goframe, kratos, leadsman, rpcx, unattributed};

/// A framework's way to write instances into etcd.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Layout {
    /// grpc-go's `naming/endpoints`.
    Grpc,
    /// go-kratos.
    Kratos,
    /// go-zero.
    GoZero,
    /// go-micro.
    GoMicro,
    /// CloudWeGo kitex.
    Kitex,
    /// CloudWeGo hertz.
    Hertz,
    /// GoFrame.
    Goframe,
    /// dubbo-go, one record an interface.
    DubboInterface,
    /// dubbo-go, one record an application.
    DubboApp,
    /// rpcx.
    Rpcx,
    /// jupiter.
    Jupiter,
    /// SkyDNS, as CoreDNS reads it.
    Skydns,
    /// Our own, for scripts and for services without a framework.
    Leadsman,
}

impl Layout {
    pub const ALL: [Self; 13] = [
        Self::Grpc,
        Self::Kratos,
        Self::GoZero,
        Self::GoMicro,
        Self::Kitex,
        Self::Hertz,
        Self::Goframe,
        Self::DubboInterface,
        Self::DubboApp,
        Self::Rpcx,
        Self::Jupiter,
        Self::Skydns,
        Self::Leadsman,
    ];

    /// The name in the configuration and in explanations.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Grpc => "grpc",
            Self::Kratos => "kratos",
            Self::GoZero => "go-zero",
            Self::GoMicro => "go-micro",
            Self::Kitex => "kitex",
            Self::Hertz => "hertz",
            Self::Goframe => "goframe",
            Self::DubboInterface => "dubbo-interface",
            Self::DubboApp => "dubbo-app",
            Self::Rpcx => "rpcx",
            Self::Jupiter => "jupiter",
            Self::Skydns => "skydns",
            Self::Leadsman => "leadsman",
        }
    }

    fn read(self, entry: &Entry<'_>) -> Reading {
        match self {
            Self::Grpc => grpc::read(entry),
            Self::Kratos => kratos::read(entry),
            Self::GoZero => go_zero::read(entry),
            Self::GoMicro => go_micro::read(entry, "micro/registry/"),
            Self::Kitex => kitex::read(entry, "kitex/registry-etcd/"),
            Self::Hertz => kitex::read(entry, "hertz/registry-etcd/"),
            Self::Goframe => goframe::read(entry),
            Self::DubboInterface => dubbo_interface::read(entry),
            Self::DubboApp => dubbo_app::read(entry),
            Self::Rpcx => rpcx::read(entry),
            Self::Jupiter => jupiter::read(entry),
            Self::Skydns => skydns::read(entry),
            Self::Leadsman => leadsman::read(entry),
        }
    }
}

impl fmt::Display for Layout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Layouts for Layout {
    const LAYOUTS: &'static [Self] = &Self::ALL;
}

/// How the layout of a record is known.
pub type LayoutChoice = Choice<Layout>;

/// Says what a record is.
pub(super) fn decode(choice: LayoutChoice, prefix: &str, key: &[u8], value: &[u8], revision: u64) -> Decoded {
    let Ok(text) = std::str::from_utf8(key) else {
        let provenance = Provenance::new(&String::from_utf8_lossy(key), "", value, revision);
        return unattributed(provenance, "the key is not UTF-8".to_owned());
    };
    let Some(relative) = below(prefix, text) else {
        return Decoded::NotAnInstance;
    };
    let mut entry = Entry::new(text, prefix, relative, value);
    let layout = match choice {
        LayoutChoice::Pinned(layout) => Some(layout),
        LayoutChoice::Auto => detect::detect(&entry),
    };
    let Some(layout) = layout else {
        let provenance = Provenance::new(text, "auto", value, revision);
        return unattributed(provenance, "no layout knows this key and value".to_owned());
    };
    entry.provenance = Provenance::new(text, layout.as_str(), value, revision);
    let reading = layout.read(&entry);
    finish(reading, entry.provenance)
}
