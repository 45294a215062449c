//! What keys do: where the person goes, and what they ask for. Nothing is sent before a question was answered with yes.

use std::sync::Arc;

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};

use super::state::{Authority, Question, Screen, State, Wish};
use crate::journal::{Opinion, Order};

/// Entries that Page Up and Page Down pass over.
const PAGE: isize = 10;

/// What the last line says of keys.
pub type Hint = (&'static str, &'static str);

impl State {
    /// Does what a key asks for.
    pub fn key(&mut self, key: KeyEvent) -> Option<Wish> {
        self.notice = None;
        if key.modifiers.contains(KeyModifiers::CONTROL) {
            return (key.code == KeyCode::Char('c')).then_some(Wish::Quit);
        }
        if let Some(question) = self.question.take() {
            return self.reply(question, key.code);
        }
        if std::mem::take(&mut self.has_help) {
            return (key.code == KeyCode::Char('q')).then_some(Wish::Quit);
        }
        match key.code {
            KeyCode::Char('q') => return Some(Wish::Quit),
            KeyCode::Char('?' | 'h') | KeyCode::F(1) => self.has_help = true,
            KeyCode::Char('1') => return self.go(Screen::Live),
            KeyCode::Char('2') => return self.go(Screen::Models),
            KeyCode::Char('3') => return self.go(Screen::Partitions),
            KeyCode::Tab => return self.go(self.beside(1)),
            KeyCode::BackTab => return self.go(self.beside(2)),
            KeyCode::Esc | KeyCode::Backspace => self.close(),
            KeyCode::Up | KeyCode::Char('k') => self.go_by(-1),
            KeyCode::Down | KeyCode::Char('j') => self.go_by(1),
            KeyCode::PageUp => self.go_by(-PAGE),
            KeyCode::PageDown | KeyCode::Char(' ') => self.go_by(PAGE),
            KeyCode::Home | KeyCode::Char('g') => self.go_by(isize::MIN),
            KeyCode::End | KeyCode::Char('G') => self.go_by(isize::MAX),
            KeyCode::Enter => return self.open(),
            KeyCode::Left if self.opened.is_some() => self.turn(-1),
            KeyCode::Right if self.opened.is_some() => self.turn(1),
            KeyCode::Left => self.close(),
            KeyCode::Right => return self.open(),
            KeyCode::Char(letter) => self.ask(letter),
            _ => {}
        }
        None
    }

    fn reply(&mut self, question: Question, code: KeyCode) -> Option<Wish> {
        match code {
            KeyCode::Char('y' | 'Y') => Some(Wish::Send(question.sending)),
            KeyCode::Char('n' | 'N' | 'q') | KeyCode::Esc => {
                self.say("Nothing was sent.".into());
                None
            }
            _ => {
                self.question = Some(question);
                None
            }
        }
    }

    fn beside(&self, steps: usize) -> Screen {
        let at = Screen::ALL.iter().position(|screen| *screen == self.screen).unwrap_or(0);
        Screen::ALL[(at + steps) % Screen::ALL.len()]
    }

    fn go(&mut self, screen: Screen) -> Option<Wish> {
        self.close();
        self.screen = screen;
        match screen {
            Screen::Live => None,
            Screen::Models => Some(Wish::Models),
            Screen::Partitions => Some(Wish::Partitions),
        }
    }

    /// Goes back to the list.
    fn close(&mut self) {
        (self.opened, self.model, self.scroll) = (None, None, 0);
    }

    /// Moves in what is in sight: the view holds a scroll to what there is.
    fn go_by(&mut self, steps: isize) {
        let moved = |at: usize, n: usize| at.saturating_add_signed(steps).min(n.saturating_sub(1));
        match self.screen {
            _ if self.opened.is_some() || self.model.is_some() => {
                self.scroll = self.scroll.saturating_add_signed(steps);
            }
            Screen::Live => self.choose(moved(self.place(), self.anomalies.len())),
            Screen::Models => {
                let at = moved(self.model_place(), self.models.len());
                self.version = self.models.get(at).map(|model| model.version);
            }
            Screen::Partitions => self.scroll = moved(self.scroll, self.partitions.len()),
        }
    }

    /// Chooses an anomaly; who is on top follows the newest.
    fn choose(&mut self, at: usize) {
        self.chosen = self.anomalies.get(at).filter(|_| at > 0).map(|anomaly| anomaly.id.clone());
    }

    /// Opens the one beside the one that is opened.
    fn turn(&mut self, steps: isize) {
        let opened = self.opened.as_ref().map(|anomaly| anomaly.id.as_str());
        let at = self.anomalies.iter().position(|anomaly| Some(anomaly.id.as_str()) == opened);
        let beside = at.map_or(Some(0), |at| at.checked_add_signed(steps));
        if let Some((at, anomaly)) = beside.and_then(|at| Some((at, self.anomalies.get(at)?))) {
            (self.opened, self.scroll) = (Some(Arc::clone(anomaly)), 0);
            self.choose(at);
        }
    }

    fn open(&mut self) -> Option<Wish> {
        match self.screen {
            Screen::Live if self.opened.is_none() => {
                let place = self.place();
                self.opened = self.anomalies.get(place).cloned();
                self.scroll = 0;
                // It stays the chosen one when newer ones come.
                self.chosen = self.opened.as_ref().map(|anomaly| anomaly.id.clone());
                None
            }
            Screen::Models if self.model.is_none() => {
                let version = self.models.get(self.model_place())?.version;
                (self.model, self.version, self.scroll) = (Some((version, None)), Some(version), 0);
                Some(Wish::Model(version))
            }
            _ => None,
        }
    }

    fn ask(&mut self, letter: char) {
        let question = match (self.screen, letter) {
            (Screen::Live, 'f') => self.anomaly().map(|anomaly| Self::opinion(anomaly, Opinion::FalsePositive)),
            (Screen::Live, 't') => self.anomaly().map(|anomaly| Self::opinion(anomaly, Opinion::TruePositive)),
            (Screen::Live, 'e') => self.anomaly().map(|anomaly| Self::opinion(anomaly, Opinion::Expected)),
            (Screen::Models, 'p') => self.promotion(),
            (Screen::Models, 'r') => Some(Self::command(
                "Roll back?".into(),
                "The model that the current one came from scores from then on.",
                Order::Rollback { version: None },
                "Rollback is ordered".into(),
            )),
            (Screen::Models, 'u') => Some(Self::command(
                "Unpin?".into(),
                "Promotions go on.",
                Order::Unpin {},
                "Unpinning is ordered".into(),
            )),
            _ => None,
        };
        let may_change = !matches!(self.authority, Authority::None(_));
        match question {
            Some(_) if !may_change => self.refuse(),
            question => self.question = question,
        }
    }

    fn promotion(&mut self) -> Option<Question> {
        let model = self.models.get(self.model_place())?;
        let version = model.version;
        if model.current {
            self.say(format!("Version {version} scores already."));
            return None;
        }
        Some(Self::command(
            format!("Promote version {version}?"),
            "It scores from then on, whatever the gate thought of it.",
            Order::Promote { version },
            format!("Promotion of version {version} is ordered"),
        ))
    }

    /// The keys that matter here, the most important first.
    pub fn hints(&self) -> Vec<Hint> {
        let may_change = !matches!(self.authority, Authority::None(_));
        let mut hints = vec![("q", "quit"), ("?", "help")];
        match self.screen {
            _ if self.opened.is_some() || self.model.is_some() => hints.push(("Esc", "back")),
            Screen::Live if self.anomalies.is_empty() => {}
            Screen::Live | Screen::Models => hints.push(("Enter", "open")),
            Screen::Partitions => {}
        }
        match self.screen {
            Screen::Live if self.anomaly().is_none() => {}
            _ if !may_change => hints.push(("", "read-only")),
            Screen::Live => hints.extend([("f", "false positive"), ("t", "true positive"), ("e", "expected")]),
            Screen::Models => hints.extend([("p", "promote"), ("r", "roll back"), ("u", "unpin")]),
            Screen::Partitions => {}
        }
        if self.opened.is_some() {
            hints.push(("←→", "next"));
        }
        hints.push(("Tab", "next page"));
        hints
    }
}
