//! Who may change which services: a file of tokens, each with the namespaces it is for.
//!
//! ```yaml
//! tokens:
//!   - { name: shop-team, token: 6f1c…, namespaces: [shop, cart] }
//!   - { name: operators, token: 93ab…, namespaces: ["*"] }
//! ```
//!
//! A namespace is the beginning of a service's name up to a dot, or the whole name: `shop` is for `shop` and for
//! `shop.orders`, and not for `shopping`. Reading is for every token, of everything.
//!
//! The file is read again when a second has passed, and sooner when somebody is refused. A file that can't be read or
//! makes no sense changes nothing, and when there never was a good one, everybody is refused.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::Deserialize;
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::model::Refusal;

/// A token that is taken away stops being good within this time.
const FRESH: Duration = Duration::from_secs(1);
/// A new token is known this soon; callers with wrong ones can't make the disk busy.
const FRESH_FOR_REFUSAL: Duration = Duration::from_millis(100);
const MAX_FILE_BYTES: u64 = 1024 * 1024;
const MAX_TOKENS: usize = 1000;
/// Nobody guesses 16 random bytes.
const MIN_TOKEN_BYTES: usize = 16;
/// As much as a header may hold besides.
const MAX_TOKEN_BYTES: usize = 1024;

/// The namespace that is every service.
const EVERYTHING: &str = "*";

/// What a good file says.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Grants(Vec<Grant>);

#[derive(PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Grant {
    name: String,
    token: String,
    namespaces: Vec<String>,
}

impl std::fmt::Debug for Grant {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Grant")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    tokens: Vec<Grant>,
}

impl Grants {
    /// # Errors
    /// One sentence that quotes no token.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let options = serde_saphyr::options! { with_snippet: false };
        // The error of the decoder may quote what it stumbled over.
        let document: Document = serde_saphyr::from_str_with_options(text, options)
            .map_err(|error| place_of(&error).unwrap_or_else(|| "it is not of the form `tokens: [ … ]`".to_owned()))?;
        let grants = document.tokens;
        if grants.len() > MAX_TOKENS {
            return Err(format!("it has {} tokens, the limit is {MAX_TOKENS}", grants.len()));
        }
        for (number, grant) in grants.iter().enumerate() {
            let name = &grant.name;
            if name.is_empty() {
                return Err(format!("token {} has no name", number + 1));
            }
            if !(MIN_TOKEN_BYTES..=MAX_TOKEN_BYTES).contains(&grant.token.len()) {
                return Err(format!(
                    "the token of {name} has not {MIN_TOKEN_BYTES} to {MAX_TOKEN_BYTES} bytes"
                ));
            }
            if let Some(twin) = grants.iter().take(number).find(|other| other.token == grant.token) {
                return Err(format!("{name} and {} have the same token", twin.name));
            }
        }
        Ok(Self(grants))
    }

    /// Compares with every token, each in a time that does not tell how much of it was right.
    pub(super) fn find(&self, token: &str) -> Option<&Grant> {
        let mut found = None;
        for grant in &self.0 {
            if bool::from(grant.token.as_bytes().ct_eq(token.as_bytes())) {
                found = Some(grant);
            }
        }
        found
    }
}

impl Grant {
    pub(super) fn covers(&self, service: &str) -> bool {
        let covers = |namespace: &String| {
            let rest = service.strip_prefix(namespace.as_str());
            namespace == EVERYTHING || rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('.'))
        };
        self.namespaces.iter().any(covers)
    }
}

fn place_of(error: &serde_saphyr::Error) -> Option<String> {
    let location = error.location()?;
    Some(format!(
        "line {}, column {} makes no sense",
        location.line(),
        location.column()
    ))
}

/// What somebody wants to do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Access<'a> {
    Read,
    Change(&'a str),
}

/// The file, as it was when it was last looked at.
#[derive(Debug)]
pub(super) struct Tokens {
    file: PathBuf,
    state: Mutex<State>,
    /// One look at a time.
    looking: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    text: Option<String>,
    grants: Option<Arc<Grants>>,
    looked: Option<Instant>,
    trouble: Option<String>,
}

impl Tokens {
    pub(super) fn new(file: &Path) -> Self {
        Self {
            file: file.to_owned(),
            state: Mutex::default(),
            looking: tokio::sync::Mutex::new(()),
        }
    }

    /// # Errors
    /// [`Refusal::Unauthenticated`] without a good token, [`Refusal::Forbidden`] for a service of others.
    pub(super) async fn check(&self, token: Option<&str>, access: Access<'_>) -> Result<(), Refusal> {
        self.look(FRESH).await;
        match self.verdict(token, access) {
            Err(Refusal::Unauthenticated(_) | Refusal::Forbidden(_)) => {
                self.look(FRESH_FOR_REFUSAL).await;
                self.verdict(token, access)
            }
            verdict => verdict,
        }
    }

    fn verdict(&self, token: Option<&str>, access: Access<'_>) -> Result<(), Refusal> {
        let Some(grants) = self.state().grants.clone() else {
            return Err(Refusal::Unavailable(
                "the registry can't read its file of tokens".to_owned(),
            ));
        };
        let Some(token) = token else {
            return Err(Refusal::Unauthenticated(
                "a token is needed: `authorization: Bearer TOKEN`".to_owned(),
            ));
        };
        let Some(grant) = grants.find(token) else {
            return Err(Refusal::Unauthenticated("the token is not known here".to_owned()));
        };
        match access {
            Access::Read => Ok(()),
            Access::Change(service) if grant.covers(service) => Ok(()),
            Access::Change(service) => Err(Refusal::Forbidden(format!(
                "the token of {} is not for {service}; it is for {}",
                grant.name,
                grant.namespaces.join(", ")
            ))),
        }
    }

    /// Reads the file, unless that was done no longer ago than `fresh`.
    async fn look(&self, fresh: Duration) {
        let is_fresh = || self.state().looked.is_some_and(|looked| looked.elapsed() < fresh);
        if is_fresh() {
            return;
        }
        let _looking = self.looking.lock().await;
        if is_fresh() {
            return;
        }
        let read = read(&self.file).await;
        let mut state = self.state();
        state.looked = Some(Instant::now());
        let outcome = match read {
            Ok(text) if state.text.as_ref() == Some(&text) => return,
            Ok(text) => {
                let grants = Grants::parse(&text);
                state.text = Some(text);
                grants
            }
            Err(error) => {
                state.text = None;
                Err(error)
            }
        };
        let file = self.file.display();
        match outcome {
            Ok(grants) => {
                tracing::info!(%file, tokens = grants.0.len(), "tokens read");
                state.grants = Some(Arc::new(grants));
                state.trouble = None;
            }
            Err(error) => {
                if state.trouble.as_ref() != Some(&error) {
                    tracing::warn!(%file, error, "the file of tokens can't be used; what it said before holds");
                }
                state.trouble = Some(error);
            }
        }
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn read(file: &Path) -> Result<String, String> {
    use tokio::io::AsyncReadExt;
    let open = async {
        let mut text = String::new();
        let file = tokio::fs::File::open(file).await?;
        file.take(MAX_FILE_BYTES + 1).read_to_string(&mut text).await?;
        std::io::Result::Ok(text)
    };
    let text = open.await.map_err(|error| format!("it can't be read: {error}"))?;
    if text.len() as u64 > MAX_FILE_BYTES {
        return Err(format!("it is longer than {MAX_FILE_BYTES} bytes"));
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOP: &str = "shop-0123456789abcdef";
    const OPERATORS: &str = "oper-0123456789abcdef";

    fn text() -> String {
        format!(
            "tokens:\n  - {{ name: shop, token: {SHOP}, namespaces: [shop, cart] }}\n  \
             - {{ name: operators, token: {OPERATORS}, namespaces: ['*'] }}\n"
        )
    }

    #[test]
    fn a_namespace_is_whole_words() {
        let grants = Grants::parse(&text()).unwrap();
        let shop = grants.find(SHOP).unwrap();
        for (service, covered) in [
            ("shop", true),
            ("shop.orders", true),
            ("cart.v2.items", true),
            ("shopping", false),
            ("shop-2", false),
            ("orders", false),
            ("", false),
        ] {
            assert_eq!(shop.covers(service), covered, "{service}");
            assert!(grants.find(OPERATORS).unwrap().covers(service));
        }
        for wrong in ["", "shop", &SHOP[1..], &format!("{SHOP}x")] {
            assert!(grants.find(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn a_bad_file_is_refused_without_a_token_in_the_words() {
        let refused = |text: &str| {
            let error = Grants::parse(text).unwrap_err();
            assert!(!error.contains("0123456789abcdef"), "{error}");
            error
        };
        let one = |rest: &str| format!("tokens:\n  - {{ {rest} }}\n");
        assert!(refused(&one("name: a, token: short, namespaces: []")).contains("the token of a has not 16"));
        assert!(refused(&one(&format!("name: '', token: {SHOP}, namespaces: []"))).contains("token 1 has no name"));
        assert!(refused(&format!("{0}{1}", text(), text().replace("tokens:\n", ""))).contains("the same token"));
        assert!(refused(&one(&format!("name: a, tokn: {SHOP}, namespaces: []"))).contains("line 2"));
        refused(&format!("- {SHOP}"));
        refused(SHOP);
        assert_eq!(Grants::parse("tokens: []").unwrap(), Grants(vec![]));
        assert!(!format!("{:?}", Grants::parse(&text()).unwrap()).contains("0123"));
    }

    #[tokio::test(start_paused = true)]
    async fn the_file_is_read_again_when_it_changes_and_kept_when_it_breaks() {
        let directory = tempfile::TempDir::new().unwrap();
        let file = directory.path().join("tokens.yaml");
        let tokens = Tokens::new(&file);
        let code = async |token: Option<&str>, access: Access<'_>| {
            tokens
                .check(token, access)
                .await
                .map_or_else(|refusal| refusal.code(), |()| "ok")
        };
        let orders = Access::Change("shop.orders");
        assert_eq!(code(Some(SHOP), orders).await, "unavailable");
        std::fs::write(&file, text()).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(code(Some(SHOP), orders).await, "ok");
        assert_eq!(code(None, orders).await, "unauthenticated");
        assert_eq!(code(Some("0123456789abcdef"), Access::Read).await, "unauthenticated");
        assert_eq!(code(Some(SHOP), Access::Change("users")).await, "forbidden");
        assert_eq!(code(Some(SHOP), Access::Read).await, "ok");
        // Who was refused is let in as soon as the file says so, before its time.
        std::fs::write(&file, text().replace("cart", "users")).unwrap();
        tokio::time::advance(FRESH_FOR_REFUSAL).await;
        assert_eq!(code(Some(SHOP), Access::Change("users")).await, "ok");
        // A file that breaks takes nothing away; one that says less does.
        std::fs::write(&file, "tokens: [").unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(code(Some(SHOP), orders).await, "ok");
        std::fs::remove_file(&file).unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(code(Some(SHOP), orders).await, "ok");
        std::fs::write(&file, "tokens: []").unwrap();
        tokio::time::advance(FRESH).await;
        assert_eq!(code(Some(SHOP), orders).await, "unauthenticated");
    }
}
