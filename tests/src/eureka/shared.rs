//! Servers that tests take turns at: one takes seconds to start, and most tests need none of their own.
//!
//! A server lives as long as a test has it or waits for it, so the last one ends it. Whoever gets it gets it empty and
//! running, whatever the test before did to it.

use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use http::Method;
use serde_json::Value;
use tokio::sync::OwnedMutexGuard;

use super::{Dialect, Eureka};
use crate::http::Http;
use crate::wait::{PATIENT, until_ok};

/// A place for a server, empty until the first test comes.
type Slot = tokio::sync::Mutex<Option<Eureka>>;

/// The use of a server until it is dropped.
#[derive(Debug)]
pub struct Turn(OwnedMutexGuard<Option<Eureka>>);

impl Turn {
    /// A server of one's own.
    ///
    /// # Panics
    /// Never: nobody else knows the place.
    pub fn alone(eureka: Eureka) -> Self {
        let place = Arc::new(Slot::new(Some(eureka)));
        Self(place.try_lock_owned().unwrap_or_else(|error| panic!("{error}")))
    }
}

impl Deref for Turn {
    type Target = Eureka;

    fn deref(&self) -> &Eureka {
        self.0.as_ref().unwrap_or_else(|| panic!("a turn without a server"))
    }
}

impl DerefMut for Turn {
    fn deref_mut(&mut self) -> &mut Eureka {
        self.0.as_mut().unwrap_or_else(|| panic!("a turn without a server"))
    }
}

/// A turn at the server of these options.
pub async fn server(dialect: Dialect, options: &[&str]) -> Turn {
    let mut place = slot(&format!("{dialect:?} {options:?}")).lock_owned().await;
    if place.is_none() {
        *place = Some(Eureka::start_with(dialect, options).await);
    }
    let mut turn = Turn(place);
    turn.renew().await;
    turn
}

fn slot(name: &str) -> Arc<Slot> {
    static SLOTS: Mutex<BTreeMap<String, Weak<Slot>>> = Mutex::new(BTreeMap::new());
    let mut slots = SLOTS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(slot) = slots.get(name).and_then(Weak::upgrade) {
        return slot;
    }
    let slot = Arc::new(Slot::default());
    slots.insert(name.to_owned(), Arc::downgrade(&slot));
    slot
}

impl Eureka {
    /// Makes the server as good as new for another test: running, and empty.
    async fn renew(&mut self) {
        // Connections belong to the runtime of the test that made them.
        self.http = Http::new();
        if self.process.is_running() {
            self.resume();
        } else {
            self.restart().await;
        }
        until_ok(PATIENT, "an empty Eureka", async || {
            let left = self.ids().await?;
            for (app, id) in &left {
                self.deregister(app, id).await;
            }
            if left.is_empty() {
                Ok(())
            } else {
                Err(format!("{left:?}"))
            }
        })
        .await;
    }

    /// The applications and ids of everything that is listed, in every dialect.
    async fn ids(&self) -> Result<Vec<(String, String)>, String> {
        let answer = self.call(Method::GET, "/apps", String::new()).await;
        let body = answer.map_err(|error| error.to_string())?.body;
        let listing: Value = serde_json::from_slice(&body).map_err(|error| error.to_string())?;
        let mut ids = Vec::new();
        for application in many(&listing["applications"]["application"]) {
            for instance in many(&application["instance"]) {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                ids.push((text(&application["name"]), text(&instance["instanceId"])));
            }
        }
        Ok(ids)
    }
}

/// A list, or one thing instead of a list of one.
fn many(value: &Value) -> &[Value] {
    match value {
        Value::Array(list) => list,
        Value::Object(_) => std::slice::from_ref(value),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => &[],
    }
}
