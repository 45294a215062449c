//! The loop: what happens goes to the state, the state is drawn, and what it wishes is done. Requests and keys are waited for on
//! helpers of the runtime, so that the screen is never late.

use std::io;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use ratatui::DefaultTerminal;
use ratatui::crossterm::event;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio::task::{JoinHandle, spawn_blocking};
use tokio::time::{MissedTickBehavior, interval};

use super::link::{self, Link};
use super::state::{Happened, State, Wish};
use super::view;
use crate::shutdown::Shutdown;
use crate::telemetry::now_ms;

/// What may wait to be taken up; after so many the screen is drawn in any case.
const QUEUE: usize = 256;
/// How often the keys are looked after for the end.
const KEYS_WAIT: Duration = Duration::from_millis(200);

/// The terminal, taken over for as long as this lives; on a panic, too, it is given back before the message.
struct Screen(DefaultTerminal);

impl Screen {
    fn take() -> io::Result<Self> {
        ratatui::try_init().map(Self)
    }

    fn draw(&mut self, state: &mut State) -> io::Result<()> {
        let mut scroll_max = 0;
        self.0.draw(|frame| scroll_max = view::draw(frame, state))?;
        state.scroll = state.scroll.min(scroll_max);
        Ok(())
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // A terminal that is gone needs nothing back.
        let _ = self.0.show_cursor();
        let _ = ratatui::try_restore();
    }
}

/// Shows the daemon until the person or a signal ends it.
pub fn run(state: State, link: Link) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(watch(state, Arc::new(link)));
    // The helpers may wait for an answer for seconds yet.
    runtime.shutdown_background();
    outcome
}

async fn watch(state: State, link: Arc<Link>) -> anyhow::Result<()> {
    let mut ends = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()].map(signal);
    let [Ok(terminate), Ok(interrupt), Ok(hangup)] = &mut ends else { bail!("signals can't be watched") };
    let (tell, heard) = channel(QUEUE);
    let end = Shutdown::default();
    let screen = Screen::take().context("this is no terminal that can be drawn on; try --once")?;
    let keys = {
        let tell = tell.clone();
        spawn_blocking(move || read_keys(&tell))
    };
    let listener = {
        let (link, tell, end) = (Arc::clone(&link), tell.clone(), end.clone());
        spawn_blocking(move || link::listen(&link, &tell, &end))
    };
    let shown = pin!(show(screen, state, (heard, tell), link));
    let outcome = tokio::select! {
        outcome = shown => outcome,
        outcome = joined(keys) => outcome.and_then(|read| read.context("keys can't be read")),
        outcome = joined(listener) => outcome,
        _ = terminate.recv() => Ok(()),
        _ = interrupt.recv() => Ok(()),
        _ = hangup.recv() => Ok(()),
    };
    end.begin();
    outcome
}

async fn joined<T>(task: JoinHandle<T>) -> anyhow::Result<T> {
    task.await.context("a helper failed")
}

/// Draws what happens until the person quits.
async fn show(
    mut screen: Screen,
    mut state: State,
    (mut heard, tell): (Receiver<Happened>, Sender<Happened>),
    link: Arc<Link>,
) -> anyhow::Result<()> {
    let mut seconds = interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        screen.draw(&mut state)?;
        let mut next = tokio::select! {
            Some(happened) = heard.recv() => Some(happened),
            _ = seconds.tick() => Some(Happened::Tick),
        };
        for _ in 0..QUEUE {
            let Some(happened) = next else { break };
            match state.update(happened, now_ms()) {
                Some(Wish::Quit) => return Ok(()),
                Some(wish) => grant(wish, Arc::clone(&link), tell.clone()),
                None => {}
            }
            next = heard.try_recv().ok();
        }
    }
}

/// Tells of keys until nobody hears it.
fn read_keys(tell: &Sender<Happened>) -> io::Result<()> {
    while !tell.is_closed() {
        if !event::poll(KEYS_WAIT)? {
            continue;
        }
        let event = event::read()?;
        // Whatever else happens to a terminal, as another size, is a reason to draw.
        let happened = event.as_key_press_event().map_or(Happened::Tick, Happened::Key);
        if tell.blocking_send(happened).is_err() {
            break;
        }
    }
    Ok(())
}

/// Does on a helper what the state wishes, and tells what comes of it.
fn grant(wish: Wish, link: Arc<Link>, tell: Sender<Happened>) {
    spawn_blocking(move || {
        let happened = match wish {
            Wish::Quit => return,
            // A list that can't be read stays as it is: the stream says whether the daemon is gone.
            Wish::Models => link.list("/api/v1/models").ok().map(Happened::Models),
            Wish::Partitions => link.list("/api/v1/partitions").ok().map(Happened::Partitions),
            Wish::Model(version) => {
                let model = link.document(&format!("/api/v1/models/{version}"));
                Some(Happened::Model(version, Box::new(model)))
            }
            Wish::Send(sending) => {
                let outcome = link.send_change(&sending.change);
                Some(Happened::Answered(sending, outcome))
            }
        };
        if let Some(happened) = happened {
            // Who has quit hears nothing more.
            let _ = tell.blocking_send(happened);
        }
    });
}
