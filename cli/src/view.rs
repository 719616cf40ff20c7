//! The screen of `top`: what stands on it, which keys do what, and how it is drawn. Asks nobody anything.

use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Paragraph, Row, Table};
use ratatui::Frame;

use crate::locks::{holders, left, Lock, Waiter};
use crate::print::{safe, shown};
use crate::time::for_people;

/// Lines of the part that shows the chosen lock.
const DETAIL: u16 = 7;
/// How far PageUp and PageDown go.
const LEAP: usize = 20;

/// A lock in the list; what is known of it comes later where there are very many.
#[derive(Clone, Debug)]
pub(crate) struct Listed {
    pub node: usize,
    pub key: Vec<u8>,
    pub lock: Option<Lock>,
}

impl Listed {
    fn waiting(&self) -> i64 {
        self.lock.as_ref().map_or(0, |lock| lock.waiting)
    }
}

/// What was asked of the servers at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub locks: Vec<Listed>,
    /// The key of a lock, and who waits for it.
    pub line: Option<(Vec<u8>, Vec<Waiter>)>,
    pub trouble: Option<String>,
}

/// What the keys want done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wish {
    Nothing,
    Quit,
    /// Other locks are to be looked at: the filter, the choice, or what is in sight has changed.
    Look,
    Break {
        key: Vec<u8>,
        owner: Option<Vec<u8>>,
        reason: String,
    },
    Cancel {
        key: Vec<u8>,
        owner: String,
    },
}

#[derive(Clone, Debug)]
enum Prompt {
    Filter,
    Reason { key: Vec<u8>, owner: Option<Vec<u8>> },
    Owner { key: Vec<u8> },
}

#[derive(Default)]
pub(crate) struct View {
    pub server: String,
    sample: Sample,
    /// The newest sample, while the screen is paused.
    newest: Option<Sample>,
    is_paused: bool,
    filter: String,
    chosen: usize,
    first: usize,
    height: usize,
    prompt: Option<(Prompt, String)>,
    message: String,
}

impl View {
    pub(crate) fn new(server: String, filter: Option<String>) -> Self {
        Self { server, filter: filter.unwrap_or_default(), height: 1, ..Self::default() }
    }

    /// The pattern of the filter: a text alone may stand anywhere in a name.
    pub(crate) fn pattern(&self) -> Option<Vec<u8>> {
        if self.filter.is_empty() {
            return None;
        }
        let is_pattern = self.filter.contains(['*', '?', '[']);
        let pattern = if is_pattern { self.filter.clone() } else { format!("*{}*", self.filter) };
        Some(pattern.into_bytes())
    }

    pub(crate) fn say(&mut self, message: String) {
        self.message = message;
    }

    /// The locks on the screen, and the chosen one: these must be known in full.
    pub(crate) fn in_sight(&self) -> Vec<Vec<u8>> {
        self.sample
            .locks
            .iter()
            .skip(self.first)
            .take(self.height + LEAP)
            .map(|listed| listed.key.clone())
            .collect()
    }

    pub(crate) fn chosen(&self) -> Option<&Listed> {
        self.sample.locks.get(self.chosen)
    }

    /// Takes a new sample: the longest lines first. The choice stays on its lock.
    pub(crate) fn take(&mut self, mut sample: Sample) {
        if self.is_paused {
            self.newest = Some(sample);
            return;
        }
        sample.locks.sort_by(|a, b| b.waiting().cmp(&a.waiting()).then_with(|| a.key.cmp(&b.key)));
        // A sample that failed shows what was known, with the trouble.
        if sample.trouble.is_some() {
            self.sample.trouble = sample.trouble;
            return;
        }
        let key = self.chosen().map(|listed| listed.key.clone());
        self.sample = sample;
        let at = key.and_then(|key| self.sample.locks.iter().position(|listed| listed.key == key));
        // At the top it stays at the top, where the longest lines come.
        if self.chosen > 0 {
            self.choose(at.unwrap_or(self.chosen));
        } else {
            self.choose(0);
        }
    }

    fn choose(&mut self, at: usize) {
        self.chosen = at.min(self.sample.locks.len().saturating_sub(1));
        self.first = self.first.min(self.chosen).max((self.chosen + 1).saturating_sub(self.height));
    }

    pub(crate) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.modifiers.contains(KeyModifiers::CONTROL) && matches!(key.code, KeyCode::Char('c' | 'd')) {
            return Wish::Quit;
        }
        if let Some((prompt, text)) = self.prompt.take() {
            return self.write(prompt, text, key);
        }
        self.message.clear();
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::Quit,
            KeyCode::Up | KeyCode::Char('k') => self.choose(self.chosen.saturating_sub(1)),
            KeyCode::Down | KeyCode::Char('j') => self.choose(self.chosen + 1),
            KeyCode::PageUp => self.choose(self.chosen.saturating_sub(LEAP)),
            KeyCode::PageDown => self.choose(self.chosen + LEAP),
            KeyCode::Home => self.choose(0),
            KeyCode::End => self.choose(usize::MAX),
            KeyCode::Char('p' | ' ') => {
                self.is_paused = !self.is_paused;
                if let (false, Some(newest)) = (self.is_paused, self.newest.take()) {
                    self.take(newest);
                }
            }
            KeyCode::Char('/') => self.prompt = Some((Prompt::Filter, self.filter.clone())),
            KeyCode::Char('b') => {
                if let Some(lock) = self.chosen().and_then(|listed| listed.lock.as_ref())
                    && !lock.holds.is_empty()
                {
                    // What is seen is what ends, and not the hold of whoever comes next.
                    let owner = match lock.holds.as_slice() {
                        [only] => Some(only.owner.clone()),
                        _ => None,
                    };
                    self.prompt = Some((Prompt::Reason { key: lock.key.clone(), owner }, String::new()));
                }
            }
            KeyCode::Char('c') => {
                if let Some(listed) = self.chosen().filter(|listed| listed.waiting() > 0) {
                    let key = listed.key.clone();
                    let first = self
                        .line_of(&key)
                        .first()
                        .and_then(|waiter| String::from_utf8(waiter.owner.clone()).ok());
                    self.prompt = Some((Prompt::Owner { key }, first.unwrap_or_default()));
                }
            }
            _ => return Wish::Nothing,
        }
        Wish::Look
    }

    /// A line that is typed, with the keys of a shell that clear it or take away its last word.
    fn write(&mut self, prompt: Prompt, mut text: String, key: KeyEvent) -> Wish {
        match key.code {
            KeyCode::Char(c) if key.modifiers.contains(KeyModifiers::CONTROL) => match c {
                'u' => text.clear(),
                'w' => text.truncate(text.trim_end().rfind(char::is_whitespace).map_or(0, |at| at + 1)),
                _ => {}
            },
            KeyCode::Esc => return Wish::Nothing,
            KeyCode::Char(c) => text.push(c),
            KeyCode::Backspace => {
                text.pop();
            }
            KeyCode::Enter => {
                return match prompt {
                    Prompt::Filter => {
                        self.filter = text;
                        self.choose(0);
                        Wish::Look
                    }
                    Prompt::Reason { key, owner } => Wish::Break { key, owner, reason: text },
                    Prompt::Owner { .. } if text.is_empty() => Wish::Nothing,
                    Prompt::Owner { key } => Wish::Cancel { key, owner: text },
                };
            }
            _ => {}
        }
        self.prompt = Some((prompt, text));
        Wish::Nothing
    }

    fn line_of(&self, key: &[u8]) -> &[Waiter] {
        match &self.sample.line {
            Some((of, waiters)) if of == key => waiters,
            _ => &[],
        }
    }

    pub(crate) fn draw(&mut self, frame: &mut Frame) {
        let [head, list, detail, foot] = Layout::vertical([
            Constraint::Length(1),
            Constraint::Min(2),
            Constraint::Length(DETAIL),
            Constraint::Length(1),
        ])
        .areas(frame.area());
        frame.render_widget(Line::styled(self.headline(), Modifier::BOLD), head);
        self.height = usize::from(list.height.saturating_sub(1)).max(1);
        self.choose(self.chosen);
        let rows =
            self.sample.locks.iter().enumerate().skip(self.first).take(self.height).map(|(at, listed)| {
                let style = if at == self.chosen {
                    Style::new().add_modifier(Modifier::REVERSED)
                } else {
                    Style::new()
                };
                row(listed).style(style)
            });
        let widths = [
            Constraint::Length(7),
            Constraint::Fill(3),
            Constraint::Length(9),
            Constraint::Fill(3),
            Constraint::Length(8),
            Constraint::Length(8),
            Constraint::Fill(2),
        ];
        let names = Row::new(["WAITING", "KEY", "MODE", "HOLDER", "HELD", "LEFT", "NOTE"]);
        let table = Table::new(rows, widths).header(names.style(Modifier::UNDERLINED)).column_spacing(2);
        frame.render_widget(table, list);
        frame.render_widget(Paragraph::new(self.detail()), detail);
        frame.render_widget(Line::from(self.footer()), foot);
    }

    fn headline(&self) -> String {
        let contended = self.sample.locks.iter().filter(|listed| listed.waiting() > 0).count();
        let waiting: i64 = self.sample.locks.iter().map(Listed::waiting).sum();
        let mut text = format!(
            "{}: {} locks, {contended} contended, {waiting} wait",
            self.server,
            self.sample.locks.len()
        );
        if !self.filter.is_empty() {
            text.push_str(&format!(", filter {}", safe(self.filter.as_bytes())));
        }
        if self.is_paused {
            text.push_str(" [paused]");
        }
        text
    }

    /// The chosen lock: who has it, and who is next.
    fn detail(&self) -> Vec<Line<'static>> {
        let Some(listed) = self.chosen() else { return Vec::new() };
        let mut lines = vec![Line::styled("─".repeat(300), Modifier::DIM)];
        let Some(lock) = &listed.lock else { return lines };
        for hold in lock.holds.iter().take(2) {
            let (from, note) = (shown(&hold.address()), shown(&hold.note));
            let from = if from.is_empty() { from } else { format!(" from {from}") };
            lines.push(Line::from(format!(
                "held by {} for {}, left {}, fence {}{from}  {note}",
                shown(&hold.owner),
                for_people(hold.held_ms),
                left(hold.left_ms),
                hold.fence()
            )));
        }
        lines.extend(lock.cooldown().map(|cooldown| Line::from(format!("in cooldown for {cooldown}"))));
        for (at, waiter) in self.line_of(&lock.key).iter().enumerate() {
            let waited = for_people(waiter.waited_ms);
            let (owner, note) = (shown(&waiter.owner), shown(&waiter.note));
            lines.push(Line::from(format!("{:>3}. {owner} for {waited} ({})  {note}", at + 1, waiter.mode)));
        }
        lines
    }

    fn footer(&self) -> String {
        let asked = match &self.prompt {
            Some((Prompt::Filter, text)) => Some(("filter: ".to_owned(), text)),
            Some((Prompt::Reason { key, owner }, text)) => {
                let whose = owner
                    .as_deref()
                    .map_or_else(|| "all holds".to_owned(), |owner| format!("the hold of {}", shown(owner)));
                Some((format!("end {whose} of {}? Enter does it, Esc does not. Reason: ", shown(key)), text))
            }
            Some((Prompt::Owner { key }, text)) => {
                Some((format!("end a wait for {}; whose: ", shown(key)), text))
            }
            None => None,
        };
        match (asked, &self.sample.trouble) {
            (Some((question, text)), _) => format!("{question}{}_", safe(text.as_bytes())),
            (None, _) if !self.message.is_empty() => safe(self.message.as_bytes()),
            (None, Some(trouble)) => format!("old figures: {}", safe(trouble.as_bytes())),
            (None, None) => "q quit   / filter   p pause   b break   c cancel   arrows choose".to_owned(),
        }
    }
}

fn row(listed: &Listed) -> Row<'static> {
    let key = shown(&listed.key);
    let Some(lock) = &listed.lock else { return Row::new([String::new(), key]) };
    let first = lock.holds.first();
    let waiting = if lock.waiting > 0 { lock.waiting.to_string() } else { String::new() };
    Row::new([
        format!("{waiting:>7}"),
        key,
        lock.mode.clone(),
        holders(lock),
        first.map(|hold| for_people(hold.held_ms)).unwrap_or_default(),
        lock.time_left(),
        first.map(|hold| shown(&hold.note)).unwrap_or_default(),
    ])
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::backend::TestBackend;
    use ratatui::Terminal;

    use super::*;
    use crate::locks;

    fn sample(count: usize) -> Sample {
        let locks = (0..count).map(|n| {
            let key = format!("lock:{n:05}").into_bytes();
            let lock = locks::of_texts(&key, &format!("web-{n}"), i64::try_from(n % 97).unwrap_or(0));
            Listed { node: 0, key, lock: Some(lock) }
        });
        Sample { locks: locks.collect(), line: None, trouble: None }
    }

    fn press(view: &mut View, keys: &str) -> Wish {
        keys.chars().fold(Wish::Nothing, |_, c| {
            let code = if c == '\n' { KeyCode::Enter } else { KeyCode::Char(c) };
            view.press(KeyEvent::new(code, KeyModifiers::NONE))
        })
    }

    #[test]
    fn the_longest_lines_come_first_and_the_choice_stays_on_its_lock() {
        let mut view = View::new("here".into(), None);
        view.height = 10;
        view.take(sample(200));
        let longest: Vec<_> = view.in_sight().into_iter().take(2).collect();
        assert_eq!(longest, [b"lock:00096".to_vec(), b"lock:00193".to_vec()]);
        press(&mut view, "jj");
        let chosen = view.chosen().map(|listed| listed.key.clone());
        view.take(sample(150));
        assert_eq!(view.chosen().map(|listed| listed.key.clone()), chosen);
        view.take(sample(1));
        assert!(view.chosen().is_some());
        view.take(sample(0));
        assert!(view.chosen().is_none());
    }

    #[test]
    fn keys_ask_before_they_do_anything_to_others() {
        let mut view = View::new("here".into(), None);
        view.take(sample(97));
        let broken = press(&mut view, "bold\n");
        let (key, owner) = (b"lock:00096".to_vec(), b"web-96".to_vec());
        assert_eq!(broken, Wish::Break { key: key.clone(), owner: Some(owner), reason: "old".into() });
        assert_eq!(press(&mut view, "czed\n"), Wish::Cancel { key, owner: "zed".into() });
        press(&mut view, "b");
        let esc = KeyEvent::new(KeyCode::Esc, KeyModifiers::NONE);
        assert_eq!(view.press(esc), Wish::Nothing);
        assert_eq!(press(&mut view, "/job\n"), Wish::Look);
        assert_eq!(view.pattern(), Some(b"*job*".to_vec()));
        press(&mut view, "p");
        view.take(sample(3));
        assert_eq!(view.sample.locks.len(), 97, "paused");
        press(&mut view, "p");
        assert_eq!(view.sample.locks.len(), 3);
        assert_eq!(press(&mut view, "q"), Wish::Quit);
    }

    #[test]
    fn the_filter_is_edited_as_a_line_of_a_shell() {
        let mut view = View::new("here".into(), None);
        let control = |view: &mut View, c| view.press(KeyEvent::new(KeyCode::Char(c), KeyModifiers::CONTROL));
        press(&mut view, "/one two  three ");
        control(&mut view, 'w');
        assert!(view.footer().ends_with(": one two  _"), "{}", view.footer());
        control(&mut view, 'w');
        assert!(view.footer().ends_with(": one _"), "{}", view.footer());
        control(&mut view, 'a');
        control(&mut view, 'u');
        assert!(view.footer().ends_with(": _"), "{}", view.footer());
        press(&mut view, "job\n");
        assert_eq!(view.pattern(), Some(b"*job*".to_vec()));
    }

    /// Sorting included, as each sample is sorted anew. The time of the processor is counted, and the least of many tries: the
    /// work is always the same, and the rest is what else the machine does.
    #[test]
    fn ten_thousand_locks_are_drawn_in_time() {
        let mut terminal = match Terminal::new(TestBackend::new(160, 50)) {
            Ok(terminal) => terminal,
            Err(error) => panic!("{error}"),
        };
        let mut view = View::new("here".into(), None);
        let spent = || Duration::from(nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID.now().unwrap());
        let mut least = Duration::MAX;
        for _ in 0..20 {
            let sample = sample(10_000);
            let start = spent();
            view.take(sample);
            assert!(terminal.draw(|frame| view.draw(frame)).is_ok());
            least = least.min(spent().saturating_sub(start));
        }
        let how = if cfg!(debug_assertions) { "without" } else { "with" };
        println!("top: 10,000 locks are sorted and drawn in {least:.2?} {how} optimisation");
        // Without optimisation it takes some times as long.
        let limit = if cfg!(debug_assertions) { 500 } else { 50 };
        assert!(least < Duration::from_millis(limit), "{least:?}");
    }
}
