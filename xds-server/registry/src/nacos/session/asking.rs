//! Questions in flight, a bounded number of them, and the token they are asked with.
//!
//! A question whose token is refused waits for a new token and is asked once more; refused again, it ends the session.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use leadsman_core::model::ServiceName;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::config::{Config, Protocol};
use super::super::continuity::Run;
use super::super::decode::{Content, Place};
use super::super::fault::Fault;
use super::super::link::{Link, Names};
use super::super::wire::Login;
use super::follow::Turn;
use crate::Error;

/// Questions in flight on one gRPC connection: enough that a thousand subscriptions take less than a second.
const AT_ONCE: usize = 32;
/// And by HTTP, where each takes a connection.
const AT_ONCE_HTTP: usize = 8;
/// A login again after one that failed, while the token is still good.
const LOGIN_PAUSE: Duration = Duration::from_secs(1);
/// Without a word from the server, as long as Nacos gives by default.
const USUAL_TTL: u64 = 18_000;

#[derive(Clone, Debug)]
pub(super) enum Question {
    /// The names of a group.
    Names(Arc<str>),
    Read(ServiceName, Place, Turn),
    /// For the comparison.
    Compare(ServiceName, Place),
    Forget(Place),
    Check,
    Login,
    /// The run of a member, and how it is asked.
    Epoch(usize, Link),
    /// Why nothing is listed.
    Explain,
}

impl Question {
    /// Whether its answer shows that the server of this session lives: not what other members say, and not what is asked
    /// aside, in whose answer a server may speak that was restarted meanwhile, or nobody at all.
    pub(super) fn is_answered_by_the_server(&self) -> bool {
        match self {
            Self::Names(_) | Self::Read(..) | Self::Compare(..) | Self::Forget(_) | Self::Check => true,
            Self::Login | Self::Epoch(..) | Self::Explain => false,
        }
    }
}

#[derive(Debug)]
pub(super) enum Answer {
    Names(Names),
    Content(Content),
    Login(Login),
    Epoch(Result<Run, String>),
    Explanation(Option<String>),
    Done,
}

impl Answer {
    pub(super) fn into_content(self) -> Option<Content> {
        match self {
            Self::Content(content) => Some(content),
            Self::Names(_) | Self::Login(_) | Self::Epoch(_) | Self::Explanation(_) | Self::Done => None,
        }
    }
}

#[derive(Debug)]
struct Asked {
    question: Question,
    /// It was refused once.
    again: bool,
}

#[derive(Debug)]
struct Finished {
    asked: Asked,
    /// The token it was asked with.
    generation: u64,
    outcome: Result<Answer, Fault>,
    at: Instant,
}

/// A question and what came of it.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) question: Question,
    /// The refusal of this one question.
    pub(super) outcome: Result<Answer, String>,
    pub(super) at: Instant,
}

#[derive(Debug)]
pub(super) struct Asking {
    link: Link,
    user: Option<(String, PathBuf)>,
    work: JoinSet<Finished>,
    waiting: VecDeque<Asked>,
    at_once: usize,
    token: Option<Arc<str>>,
    /// Counts the tokens.
    generation: u64,
    logging_in: bool,
    /// Somebody waits for a new token.
    refused: Option<String>,
    /// When the token should be renewed.
    renew_at: Option<Instant>,
}

impl Asking {
    pub(super) fn new(config: &Config, link: Link) -> Self {
        Self {
            link,
            user: config.username.clone().zip(config.password_file.clone()),
            work: JoinSet::new(),
            waiting: VecDeque::new(),
            at_once: match config.protocol {
                Protocol::Grpc => AT_ONCE,
                Protocol::Http => AT_ONCE_HTTP,
            },
            token: None,
            generation: 0,
            logging_in: false,
            refused: None,
            renew_at: None,
        }
    }

    pub(super) fn ask(&mut self, question: Question) {
        self.waiting.push_back(Asked { question, again: false });
    }

    /// When [`Asking::renew`] has something to do.
    pub(super) fn renew_at(&self) -> Option<Instant> {
        self.renew_at.filter(|_| !self.logging_in)
    }

    pub(super) fn renew(&mut self) {
        if self.user.is_some() && !self.logging_in {
            self.logging_in = true;
            self.waiting.push_front(Asked {
                question: Question::Login,
                again: false,
            });
        }
    }

    /// Takes over a token.
    pub(super) fn logged_in(&mut self, login: Login, now: Instant) {
        let ttl = Duration::from_secs(login.token_ttl.unwrap_or(USUAL_TTL).max(1));
        self.token = Some(login.access_token.into());
        self.generation += 1;
        self.logging_in = false;
        self.refused = None;
        self.renew_at = Some(now + ttl * 4 / 5);
    }

    /// Why nothing can be listed, if HTTP tells.
    pub(super) async fn explain(&self) -> Option<String> {
        self.link.explain_emptiness(self.token.as_deref()).await
    }

    /// The next answer; `None` while nothing is asked.
    pub(super) async fn next(&mut self) -> Option<Result<Done, Error>> {
        loop {
            self.fill();
            let finished = match self.work.join_next().await? {
                Ok(finished) => finished,
                Err(error) => return Some(Err(Error::Unavailable(format!("a question ended: {error}")))),
            };
            match self.sort(finished) {
                Ok(Some(done)) => return Some(Ok(done)),
                Ok(None) => {}
                Err(error) => return Some(Err(error)),
            }
        }
    }

    /// Puts aside what is asked once more.
    fn sort(&mut self, finished: Finished) -> Result<Option<Done>, Error> {
        let Finished {
            asked,
            generation,
            outcome,
            at,
        } = finished;
        let is_login = matches!(asked.question, Question::Login);
        let outcome = match outcome {
            Ok(answer) => Ok(answer),
            Err(fault) if is_login => return self.login_failed(fault, at),
            Err(Fault::Session(error)) => return Err(error),
            Err(Fault::Refused(reason)) => Err(reason),
            Err(Fault::Denied(reason)) => {
                if self.user.is_none() {
                    return Err(Error::Denied(format!(
                        "{reason} (username and password_file are not set)"
                    )));
                }
                if asked.again {
                    return Err(Error::Denied(reason));
                }
                if generation == self.generation {
                    self.refused = Some(reason);
                    self.renew();
                }
                self.waiting.push_back(Asked { again: true, ..asked });
                return Ok(None);
            }
        };
        Ok(Some(Done {
            question: asked.question,
            outcome,
            at,
        }))
    }

    /// As long as nobody was refused, the old token is good enough to try again.
    fn login_failed(&mut self, fault: Fault, at: Instant) -> Result<Option<Done>, Error> {
        self.logging_in = false;
        let error = fault.into_error();
        if self.refused.is_some() {
            return Err(error);
        }
        tracing::warn!(%error, "the token of Nacos can't be renewed");
        self.renew_at = Some(at + LOGIN_PAUSE);
        Ok(None)
    }

    fn fill(&mut self) {
        while self.work.len() < self.at_once {
            // With a token that is being replaced nobody needs to ask.
            let first = self.waiting.front();
            let must_wait =
                self.refused.is_some() && first.is_some_and(|asked| !matches!(asked.question, Question::Login));
            let Some(asked) = (!must_wait).then(|| self.waiting.pop_front()).flatten() else {
                return;
            };
            let (link, token, user) = (self.link.clone(), self.token.clone(), self.user.clone());
            let generation = self.generation;
            self.work.spawn(async move {
                let outcome = answer(&asked.question, link, token.as_deref(), user).await;
                Finished {
                    asked,
                    generation,
                    outcome,
                    at: Instant::now(),
                }
            });
        }
    }
}

async fn answer(
    question: &Question,
    link: Link,
    token: Option<&str>,
    user: Option<(String, PathBuf)>,
) -> Result<Answer, Fault> {
    Ok(match question {
        Question::Names(group) => Answer::Names(link.names(group, token).await?),
        Question::Read(_, place, turn) => Answer::Content(link.read(place, turn.subscribe, token).await?),
        Question::Compare(_, place) => Answer::Content(link.read(place, false, token).await?),
        Question::Forget(place) => {
            link.forget(place, token).await?;
            Answer::Done
        }
        Question::Check => {
            link.check(token).await?;
            Answer::Done
        }
        Question::Login => {
            let (name, file) = user.ok_or_else(|| Fault::Refused("nobody to log in as".to_owned()))?;
            Answer::Login(link.log_in(&name, &file).await?)
        }
        Question::Epoch(_, other) => Answer::Epoch(other.epoch(token).await),
        Question::Explain => Answer::Explanation(link.explain_emptiness(token).await),
    })
}
