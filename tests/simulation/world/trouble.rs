//! What breaks, and when it is mended.

use super::super::forge::{MOODS, Mood};
use super::super::tables::Without;
use super::{AGENTS, Event, Note, SERVERS, World, name};

impl World {
    pub(super) fn trouble(&mut self) {
        if !self.is_troubled() {
            return self.mend();
        }
        let who = self.rng.usize(..SERVERS + AGENTS);
        match self.rng.u8(..16) {
            0..4 => {
                let back_in = self.rng.u64(100..30_000);
                self.tell(|| format!("kill -9 {}", name(who)));
                self.kill(who, back_in);
            }
            4..6 => self.stop(who),
            6..8 => {
                let cut = self.time + self.rng.u64(1_000..150_000);
                self.tell(|| format!("{} is cut off until {}", name(who), cut / 1000));
                self.processes[who].cut_until = cut;
            }
            8..10 => {
                let back = self.time + self.rng.u64(200..40_000);
                self.tell(|| format!("the database is away until {}", back / 1000));
                self.database_back_at = back;
            }
            10..13 => {
                let mood = MOODS[self.rng.usize(..MOODS.len())];
                self.tell(|| format!("the forge is {mood:?}"));
                self.forge.mood = mood;
                let cheered = self.rng.u64(1_000..120_000);
                self.later(cheered, Event::Cheered);
            }
            13 => {
                self.wall_turned += self.rng.i64(-86_400_000..86_400_000);
                self.tell(|| "somebody turns the wall clock".to_owned());
            }
            14 => {
                self.tell(|| format!("SIGTERM {}", name(who)));
                self.note_in(who, 1, Note::Drain);
            }
            _ => self.turn_database_clock(),
        }
        let pause = self.rng.u64(1_000..40_000);
        self.later(pause, Event::Trouble);
    }

    /// SIGSTOP, until SIGCONT.
    fn stop(&mut self, who: usize) {
        let until = self.time + self.rng.u64(500..180_000);
        self.tell(|| format!("{} is stopped until {}", name(who), until / 1000));
        let stopped_until = &mut self.processes[who].stopped_until;
        *stopped_until = until.max(*stopped_until);
        self.processes[who].was_stopped = true;
    }

    /// Rare: it makes two agents run one build, which else nothing but a stopped one does. And never while the forge sits
    /// on a request: that two things go wrong which no lease can tell from each other is not promised to end well.
    fn turn_database_clock(&mut self) {
        let sits = self.happenings.values().any(|event| matches!(event, Event::Listed { .. } | Event::Posted { .. }));
        if self.rng.u8(..8) == 0 && !sits && !self.lacks(Without::StoppingInTime) {
            self.database_ahead += self.rng.u64(1_000..300_000);
            self.tell(|| "the database's clock jumps ahead".to_owned());
        }
    }

    fn mend(&mut self) {
        self.tell(|| "everything is mended".to_owned());
        self.forge.mood = Mood::Fine;
        self.database_back_at = 0;
        for process in &mut self.processes {
            process.cut_until = 0;
        }
    }
}
