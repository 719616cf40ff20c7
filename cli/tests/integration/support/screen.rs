//! The program on a terminal, and what a person sees there.

use std::io::{Read, Write};
use std::sync::{Arc, Mutex};

use portable_pty::{native_pty_system, Child, CommandBuilder, PtySize};

use super::{Server, PATIENCE};

pub(crate) struct Screen {
    process: Box<dyn Child + Send + Sync>,
    keys: Box<dyn Write + Send>,
    terminal: Arc<Mutex<vt100::Parser>>,
    // It closes with the value.
    _master: Box<dyn portable_pty::MasterPty + Send>,
}

impl Screen {
    /// The program with these words.
    pub(crate) fn tool(server: &Server, (rows, columns): (u16, u16), words: &[&str]) -> Self {
        let mut command = CommandBuilder::new(env!("CARGO_BIN_EXE_redis-lock"));
        command.args(words);
        Self::start(server, (rows, columns), command)
    }

    pub(crate) fn start(server: &Server, (rows, cols): (u16, u16), mut command: CommandBuilder) -> Self {
        let pair =
            native_pty_system().openpty(PtySize { rows, cols, pixel_width: 0, pixel_height: 0 }).unwrap();
        command.env("REDIS_URL", server.url());
        command.env("TERM", "xterm-256color");
        let process = pair.slave.spawn_command(command).unwrap();
        let mut output = pair.master.try_clone_reader().unwrap();
        let terminal = Arc::new(Mutex::new(vt100::Parser::new(rows, cols, 0)));
        let reader = Arc::clone(&terminal);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                reader.lock().unwrap().process(&bytes[..count]);
            }
        });
        Self { process, keys: pair.master.take_writer().unwrap(), terminal, _master: pair.master }
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).unwrap();
        self.keys.flush().unwrap();
    }

    /// The lines, without blanks at their ends.
    pub(crate) fn text(&self) -> String {
        self.terminal.lock().unwrap().screen().contents()
    }

    /// Waits until the screen is so, and returns it.
    #[track_caller]
    pub(crate) fn shows(&self, what: &str, mut is_so: impl FnMut(&str) -> bool) -> String {
        let end = std::time::Instant::now() + PATIENCE;
        loop {
            let text = self.text();
            if is_so(&text) {
                return text;
            }
            assert!(std::time::Instant::now() < end, "not on the screen: {what}\n{text}");
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    }

    #[track_caller]
    pub(crate) fn says(&self, words: &str) -> String {
        self.shows(words, |text| text.contains(words))
    }

    #[track_caller]
    pub(crate) fn end(&mut self) -> u32 {
        let mut status = None;
        super::until("the program on the terminal ends", || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap().exit_code()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
