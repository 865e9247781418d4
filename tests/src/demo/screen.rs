//! What the demo prints: numbered steps, aligned facts, and where the time went.
//!
//! Plain text and no colour, so that a log reads like a terminal. Only the progress of a wait differs: a terminal sees
//! one line that changes, anything else a line every ten seconds.

use std::fmt;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

/// Wide enough for the longest label of a fact.
const LABEL: usize = 30;

/// How often a wait shows itself where lines can't be rewritten.
const PROGRESS: Duration = Duration::from_secs(10);

/// Output of other programs is cut at this width: what lies beyond wraps, and no column lines up any more.
const WIDTH: usize = 170;

/// The output of one run.
pub(crate) struct Screen {
    out: Box<dyn Write + Send>,
    rewrites: bool,
    steps: u32,
    parts: Vec<(String, Duration)>,
    progressed: Option<Instant>,
}

impl fmt::Debug for Screen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Screen")
            .field("steps", &self.steps)
            .finish_non_exhaustive()
    }
}

impl Screen {
    /// The process's own output. `parts` is the time that was spent before the demo began, by name.
    pub(crate) fn new(parts: Vec<(String, Duration)>) -> Self {
        let rewrites = io::stdout().is_terminal();
        Self::over(Box::new(io::stdout()), rewrites, parts)
    }

    fn over(out: Box<dyn Write + Send>, rewrites: bool, parts: Vec<(String, Duration)>) -> Self {
        Self {
            out,
            rewrites,
            steps: 0,
            parts,
            progressed: None,
        }
    }

    /// Does one step, and says how it went and how long it took.
    ///
    /// # Errors
    /// The step's own.
    pub(crate) async fn step<T>(
        &mut self,
        heading: &str,
        step: impl AsyncFnOnce(&mut Self) -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        self.steps += 1;
        self.line(&format!("\n{:>2}  {heading}", self.steps));
        let begun = Instant::now();
        let outcome = step(self).await;
        let took = begun.elapsed();
        self.parts.push((format!("step {:>2}  {heading}", self.steps), took));
        match &outcome {
            Ok(_) => self.fact("ok", &seconds(took)),
            Err(error) => self.line(&format!("    FAILED: {error:#}")),
        }
        outcome
    }

    /// One measured or observed thing.
    pub(crate) fn fact(&mut self, label: &str, value: &str) {
        self.line(&format!("    {label:<LABEL$}  {value}"));
    }

    /// A line of its own.
    pub(crate) fn line(&mut self, text: &str) {
        if self.rewrites && self.progressed.is_some() {
            self.write("\r\u{1b}[K");
        }
        self.progressed = None;
        self.write(&format!("{}\n", text.trim_end()));
    }

    /// The output of another program, indented.
    pub(crate) fn quote(&mut self, text: &str) {
        for line in text.lines() {
            let cut: String = line.chars().take(WIDTH).collect();
            let more = if cut.len() < line.len() { "…" } else { "" };
            self.line(&format!("    | {cut}{more}"));
        }
    }

    /// How a wait is going; the next line takes its place.
    pub(crate) fn progress(&mut self, text: &str) {
        let due = self.progressed.is_none_or(|shown| shown.elapsed() >= PROGRESS);
        if self.rewrites {
            self.write(&format!("\r\u{1b}[K    … {text}"));
            self.progressed = Some(Instant::now());
        } else if due {
            self.write(&format!("    … {text}\n"));
            self.progressed = Some(Instant::now());
        }
    }

    /// How long each part took, and all of them together.
    pub(crate) fn times(&mut self) {
        let total = self.parts.iter().map(|(_, took)| *took).sum();
        let rows: Vec<String> = self
            .parts
            .iter()
            .map(|(part, took)| format!("    {:>8}  {part}", seconds(*took)))
            .collect();
        self.line("\nWhere the time went");
        for row in rows {
            self.line(&row);
        }
        self.line(&format!("    {:>8}  in all", seconds(total)));
    }

    fn write(&mut self, text: &str) {
        // Who closed the output has seen enough; the exit code still tells.
        let _ = self.out.write_all(text.as_bytes()).and_then(|()| self.out.flush());
    }
}

/// A duration as people say it.
pub(crate) fn seconds(duration: Duration) -> String {
    format!("{:.1} s", duration.as_secs_f64())
}

/// A duration that may be short: in milliseconds below a second.
pub(crate) fn span(duration: Duration) -> String {
    if duration < Duration::from_secs(1) {
        return format!("{:.1} ms", duration.as_secs_f64() * 1000.0);
    }
    seconds(duration)
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Shared(Arc<Mutex<Vec<u8>>>);

    impl Write for Shared {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Shared {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn untimed(text: &str) -> String {
        let digits = |line: &str| line.replace(|c: char| c.is_ascii_digit(), "0");
        text.lines().map(|line| digits(line) + "\n").collect()
    }

    #[tokio::test]
    async fn a_step_shows_its_facts_and_how_it_ended() {
        let out = Shared::default();
        let mut screen = Screen::over(
            Box::new(out.clone()),
            false,
            vec![("build".into(), Duration::from_secs(3))],
        );
        let fine = screen
            .step("Begin", async |screen| {
                screen.progress("waiting");
                screen.progress("waiting too soon again");
                screen.fact("hosts", "three");
                Ok(7)
            })
            .await;
        assert_eq!(fine.unwrap(), 7);
        let bad: anyhow::Result<()> = screen
            .step("End", async |_| Err(anyhow::anyhow!("expected 1, saw 2")))
            .await;
        assert_eq!(bad.unwrap_err().to_string(), "expected 1, saw 2");
        screen.times();
        let expected = "
 0  Begin
    … waiting
    hosts                           three
    ok                              0.0 s

 0  End
    FAILED: expected 0, saw 0

Where the time went
       0.0 s  build
       0.0 s  step  0  Begin
       0.0 s  step  0  End
       0.0 s  in all
";
        assert_eq!(untimed(&out.text()), expected);
    }

    #[test]
    fn on_a_terminal_a_line_takes_the_place_of_the_progress() {
        let out = Shared::default();
        let mut screen = Screen::over(Box::new(out.clone()), true, Vec::new());
        screen.progress("1 of 2");
        screen.progress("2 of 2");
        screen.line("done");
        assert_eq!(
            out.text(),
            "\r\u{1b}[K    … 1 of 2\r\u{1b}[K    … 2 of 2\r\u{1b}[Kdone\n"
        );
    }

    #[test]
    fn a_span_has_the_unit_that_fits() {
        assert_eq!(span(Duration::from_micros(4_400)), "4.4 ms");
        assert_eq!(span(Duration::from_millis(3_140)), "3.1 s");
    }

    #[test]
    fn quoted_lines_are_cut() {
        let out = Shared::default();
        let mut screen = Screen::over(Box::new(out.clone()), false, Vec::new());
        screen.quote(&format!("{}\nshort", "x".repeat(WIDTH + 1)));
        assert_eq!(out.text(), format!("    | {}…\n    | short\n", "x".repeat(WIDTH)));
    }
}
