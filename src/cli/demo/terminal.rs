//! Single keys from the terminal, while lines are printed to it.

use std::io::{IsTerminal, Read};

use rustix::termios::{LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcsetattr};
use tokio::sync::mpsc;

/// What a key asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Key {
    /// A push of a sound commit (`p`, and `f` after a broken one).
    Push,
    /// A push of a commit that can't be bundled (`b`).
    Break,
    /// A push that mends it (`f`).
    Fix,
    /// The build's page in the browser (`o`).
    Open,
    /// The end (`q`).
    Quit,
}

impl Key {
    fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte.to_ascii_lowercase() {
            b'p' => Key::Push,
            b'b' => Key::Break,
            b'f' => Key::Fix,
            b'o' => Key::Open,
            b'q' => Key::Quit,
            _ => return None,
        })
    }
}

/// True when there is a person to press keys and to see them answered.
pub(super) fn is_interactive() -> bool {
    std::io::stdin().is_terminal() && std::io::stdout().is_terminal()
}

/// The terminal with keys read one by one and not echoed, until this is dropped. Ctrl-C stays a signal.
pub(super) struct Keyboard {
    before: Termios,
}

impl Keyboard {
    /// Reads keys from standard input on a thread of its own, which ends with the process.
    pub(super) fn open() -> std::io::Result<(Self, mpsc::UnboundedReceiver<Key>)> {
        let before = tcgetattr(std::io::stdin())?;
        let mut raw = before.clone();
        raw.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
        raw.special_codes[SpecialCodeIndex::VMIN] = 1;
        raw.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(std::io::stdin(), OptionalActions::Now, &raw)?;
        let (sender, keys) = mpsc::unbounded_channel();
        std::thread::spawn(move || {
            let known = std::io::stdin().lock().bytes().map_while(Result::ok).filter_map(Key::from_byte);
            for key in known {
                if sender.send(key).is_err() {
                    return;
                }
            }
        });
        Ok((Self { before }, keys))
    }
}

impl Drop for Keyboard {
    fn drop(&mut self) {
        let _ = tcsetattr(std::io::stdin(), OptionalActions::Now, &self.before);
    }
}
