//! What `strayd top` knows and where the person is: changed by what happens, and by nothing else. No I/O and no clock in here.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use jiff::tz::TimeZone;
use ratatui::crossterm::event::KeyEvent;

use super::link::{Failure, Look};
use super::told::{Anomaly, Beat, Entry, Model, Partition, Status};
use super::words::{millis, said_of};
use crate::journal::{Feedback, Opinion, Order};

/// Anomalies that are kept: as many as the daemon does.
const ANOMALIES_MAX: usize = 200;
/// Seconds that the charts go back.
pub const SECONDS: usize = 300;
/// How long a notice stands, unless a key is pressed.
const NOTICE_MS: i64 = 10_000;
/// The lists that only change now and then are read again after so many seconds, while they are looked at.
const REREAD_SECONDS: u64 = 5;

/// Something that happens.
#[derive(Clone, Debug)]
pub enum Happened {
    /// A key was pressed.
    Key(KeyEvent),
    /// The daemon is there, and this is what was before.
    Looked(Box<Look>),
    /// A second has gone by.
    Status(Box<Status>),
    Anomaly(Box<Anomaly>),
    /// The daemon is gone, and why.
    Lost(String),
    Models(Vec<Entry>),
    /// The model that was opened, or why it can't be shown.
    Model(u64, Box<Result<Model, Failure>>),
    Partitions(Vec<Partition>),
    /// What became of what was sent.
    Answered(Sending, Result<(), Failure>),
    /// Nothing but time.
    Tick,
}

/// Something that the state wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Wish {
    Quit,
    /// Read the list of models.
    Models,
    /// Read one model.
    Model(u64),
    /// Read the partitions.
    Partitions,
    /// Send this.
    Send(Sending),
}

/// What is sent to change something.
#[derive(Clone, Debug, PartialEq)]
pub struct Sending {
    pub change: Change,
    /// What is said when it was taken.
    pub done: String,
}

/// What a person wants changed.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    Command(Order),
    Feedback(Feedback),
}

/// A question that is asked before something is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Question {
    pub text: String,
    /// What it is about.
    pub about: String,
    /// What a yes means.
    pub effect: &'static str,
    pub sending: Sending,
}

/// What was said last, and until when it stands.
#[derive(Clone, Debug)]
pub struct Notice {
    pub text: String,
    pub is_bad: bool,
    until_ms: i64,
}

/// Whether the daemon is heard.
#[derive(Clone, Debug)]
pub enum Connection {
    /// Since when it is tried.
    Opening(i64),
    Live,
    /// Since when it is gone, and why.
    Lost(i64, String),
}

/// Whether changes may be sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Authority {
    /// With a token.
    Token,
    /// Without one: the daemon may take this machine's word.
    Asked,
    /// Not, and why.
    None(String),
}

/// One of the three pages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Screen {
    #[default]
    Live,
    Models,
    Partitions,
}

impl Screen {
    pub const ALL: [Self; 3] = [Self::Live, Self::Models, Self::Partitions];

    pub fn name(self) -> &'static str {
        match self {
            Self::Live => "live",
            Self::Models => "models",
            Self::Partitions => "partitions",
        }
    }
}

/// Everything that is shown.
#[derive(Clone, Debug)]
pub struct State {
    /// The daemon's address.
    pub address: String,
    /// Whose hours are shown.
    pub zone: TimeZone,
    pub has_colour: bool,
    pub authority: Authority,
    pub connection: Connection,
    pub now_ms: i64,
    pub status: Option<Status>,
    /// Oldest first.
    pub beats: VecDeque<Beat>,
    /// Newest first.
    pub anomalies: VecDeque<Arc<Anomaly>>,
    /// Newest first.
    pub models: Vec<Entry>,
    pub partitions: Vec<Partition>,
    pub screen: Screen,
    /// Id of the anomaly that is chosen; none: the newest, whichever that is.
    pub chosen: Option<String>,
    /// The anomaly that is opened; it stays when the list goes on.
    pub opened: Option<Arc<Anomaly>>,
    /// The model that is chosen; none: the newest.
    pub version: Option<u64>,
    /// The model that is opened, once it is read.
    pub model: Option<(u64, Option<Result<Model, Failure>>)>,
    /// Lines that the opened one, or the list of partitions, is moved up by.
    pub scroll: usize,
    pub question: Option<Question>,
    pub notice: Option<Notice>,
    pub has_help: bool,
    /// What was said of anomalies since the start.
    pub said: HashMap<String, Opinion>,
}

impl State {
    /// The state before anything is known.
    pub fn new(address: &str, authority: Authority, now_ms: i64) -> Self {
        Self {
            address: address.to_owned(),
            zone: TimeZone::UTC,
            has_colour: true,
            authority,
            connection: Connection::Opening(now_ms),
            now_ms,
            status: None,
            beats: VecDeque::new(),
            anomalies: VecDeque::new(),
            models: Vec::new(),
            partitions: Vec::new(),
            screen: Screen::Live,
            chosen: None,
            opened: None,
            version: None,
            model: None,
            scroll: 0,
            question: None,
            notice: None,
            has_help: false,
            said: HashMap::new(),
        }
    }

    /// Takes up what has happened; what is to be done about it.
    pub fn update(&mut self, happened: Happened, now_ms: i64) -> Option<Wish> {
        self.now_ms = now_ms;
        if self.notice.as_ref().is_some_and(|notice| notice.until_ms <= now_ms) {
            self.notice = None;
        }
        match happened {
            Happened::Key(key) => return self.key(key),
            Happened::Looked(look) => self.looked(*look),
            Happened::Status(status) => return self.told(*status),
            Happened::Anomaly(anomaly) => self.add(*anomaly),
            Happened::Lost(why) => self.lost(why),
            Happened::Models(models) => self.take_models(models),
            Happened::Model(version, model) => {
                if self.model.as_ref().is_some_and(|(wanted, _)| *wanted == version) {
                    self.model = Some((version, Some(*model)));
                }
            }
            Happened::Partitions(partitions) => self.partitions = partitions,
            Happened::Answered(sending, outcome) => return self.answered(sending, outcome),
            Happened::Tick => {}
        }
        None
    }

    fn looked(&mut self, look: Look) {
        self.connection = Connection::Live;
        look.anomalies.into_iter().rev().for_each(|anomaly| self.add(anomaly));
        self.beats = look.beats.into();
        self.take_models(look.models);
        self.partitions = look.partitions;
        if look.wants_token && self.authority == Authority::Asked {
            self.authority = Authority::None("the daemon wants its token for every change".into());
        }
    }

    fn lost(&mut self, why: String) {
        self.connection = match self.connection {
            Connection::Live => Connection::Lost(self.now_ms, why),
            Connection::Opening(since) | Connection::Lost(since, _) => Connection::Lost(since, why),
        };
    }

    fn told(&mut self, status: Status) -> Option<Wish> {
        let last = self.status.as_ref();
        let is_new = last.is_none_or(|last| last.n_samples != status.n_samples || last.started != status.started);
        let version = |status: &Status| status.model.as_ref().map(|model| model.version);
        let has_other_model = last.is_none_or(|last| version(last) != version(&status));
        let is_due = has_other_model || status.n_samples.is_multiple_of(REREAD_SECONDS);
        if let Some(time_ms) = millis(&status.time).filter(|_| is_new) {
            self.beats.push_back(Beat { time_ms, rate: status.rate, lag: status.lag, ratio: status.ratio });
            while self.beats.len() > SECONDS {
                self.beats.pop_front();
            }
        }
        self.status = Some(status);
        match self.screen {
            Screen::Models if is_due => Some(Wish::Models),
            Screen::Partitions => Some(Wish::Partitions),
            _ if has_other_model => Some(Wish::Models),
            _ => None,
        }
    }

    /// Puts an anomaly on top, unless it is there.
    fn add(&mut self, anomaly: Anomaly) {
        if self.anomalies.iter().any(|known| known.id == anomaly.id) {
            return;
        }
        self.anomalies.push_front(Arc::new(anomaly));
        self.anomalies.truncate(ANOMALIES_MAX);
    }

    fn take_models(&mut self, mut models: Vec<Entry>) {
        models.sort_by_key(|model| std::cmp::Reverse(model.version));
        self.models = models;
    }

    fn answered(&mut self, sending: Sending, outcome: Result<(), Failure>) -> Option<Wish> {
        match outcome {
            Ok(()) => {
                self.say(format!("{} — the daemon's log says what comes of it.", sending.done));
                if let Change::Feedback(Feedback { id: Some(id), verdict, .. }) = sending.change {
                    self.said.insert(id, verdict);
                }
                (self.screen == Screen::Models).then_some(Wish::Models)
            }
            Err(Failure::Refused(401, _)) => {
                let why = match self.authority {
                    Authority::Token => "the daemon doesn't know this token",
                    _ => "the daemon wants its token for every change",
                };
                self.authority = Authority::None(why.into());
                self.refuse();
                None
            }
            Err(failure) => {
                self.complain(format!("Not done: {failure}."));
                None
            }
        }
    }

    /// The place in the list of the anomaly that is chosen.
    pub fn place(&self) -> usize {
        let at = |id: &String| self.anomalies.iter().position(|anomaly| anomaly.id == *id);
        self.chosen.as_ref().and_then(at).unwrap_or(0)
    }

    /// The anomaly that is spoken of.
    pub fn anomaly(&self) -> Option<&Arc<Anomaly>> {
        self.opened.as_ref().or_else(|| self.anomalies.get(self.place()))
    }

    /// The place in the list of the model that is chosen.
    pub fn model_place(&self) -> usize {
        self.models.iter().position(|model| Some(model.version) == self.version).unwrap_or(0)
    }

    pub fn say(&mut self, text: String) {
        self.notice = Some(Notice { text, is_bad: false, until_ms: self.now_ms + NOTICE_MS });
    }

    pub fn complain(&mut self, text: String) {
        self.notice = Some(Notice { text, is_bad: true, until_ms: self.now_ms + NOTICE_MS });
    }

    /// Says why nothing can be changed, and what helps.
    pub fn refuse(&mut self) {
        if let Authority::None(why) = &self.authority {
            self.complain(format!("Read-only: {why}: --token-file FILE"));
        }
    }

    /// The question whether an anomaly was this.
    pub fn opinion(anomaly: &Anomaly, verdict: Opinion) -> Question {
        let (text, effect) = match verdict {
            Opinion::FalsePositive => ("Was this a false positive?", "Later models learn it as ordinary."),
            Opinion::TruePositive => ("Was this a true positive?", "Every later model must find it."),
            Opinion::Expected => ("Was this expected?", "It is neither learnt nor held against a model."),
        };
        let key = anomaly.entity.as_deref().map_or_else(String::new, |entity| format!("{entity}: "));
        let feedback =
            Feedback { id: Some(anomaly.id.clone()), source: Some(anomaly.source.clone()), verdict, note: None };
        Question {
            text: text.into(),
            about: format!("{key}{}", anomaly.summary),
            effect,
            sending: Sending { change: Change::Feedback(feedback), done: format!("Noted as {}", said_of(verdict)) },
        }
    }

    /// The question whether a command is meant.
    pub fn command(text: String, effect: &'static str, order: Order, done: String) -> Question {
        let sending = Sending { change: Change::Command(order), done };
        Question { text, about: String::new(), effect, sending }
    }
}
