//! Threads that serve devices, `<iothreads>`, `<iothreadids>` and `<defaultiothread>`.

use crate::reader::Reader;
use crate::writer::Writer;

crate::attributes! {
    /// How long a thread polls before it sleeps.
    pub struct IoThreadPoll {
        /// The longest time, in nanoseconds.
        pub max: u64 = number "max",
        /// By what the time grows.
        pub grow: u64 = number "grow",
        /// By what it shrinks.
        pub shrink: u64 = number "shrink",
    }
}

crate::attributes! {
    /// How many workers a thread has.
    pub struct ThreadPool {
        /// The fewest.
        pub min: u32 = number "thread_pool_min",
        /// The most.
        pub max: u32 = number "thread_pool_max",
    }
}

/// A thread that serves devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoThread {
    /// Its number, from 1.
    pub id: u32,
    /// How many workers it has.
    pub pool: ThreadPool,
    /// How long it polls.
    pub poll: IoThreadPoll,
}

/// Threads that serve devices.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct IoThreads {
    /// How many there are, if it was written.
    pub count: Option<u32>,
    /// Those that are described one by one.
    pub threads: Vec<IoThread>,
    /// The workers of QEMU's main thread.
    pub default_pool: ThreadPool,
}

/// Most that are made; the number comes from the document.
const MOST: u32 = 4096;

impl IoThreads {
    pub(crate) fn parse(root: &Reader<'_>) -> Self {
        let count = root.child("iothreads").and_then(|reader| {
            let count: u32 = reader.text_number()?;
            if count > MOST {
                reader.refuse(format!("more than {MOST} threads are not made; give fewer"));
                return None;
            }
            Some(count)
        });
        let mut threads: Vec<IoThread> = Vec::new();
        if let Some(list) = root.child("iothreadids") {
            for reader in list.children("iothread") {
                let Some(thread) = IoThread::parse(&reader) else { continue };
                if threads.iter().any(|other| other.id == thread.id) {
                    reader.refuse_attribute("id", "another thread has this number; give another");
                }
                threads.push(thread);
            }
        }
        let default_pool = root.child("defaultiothread").map(|reader| {
            let pool = ThreadPool::parse(&reader);
            pool.check(&reader);
            pool
        });
        Self { count, threads, default_pool: default_pool.unwrap_or_default() }
    }

    /// Describes all threads, if one is, and counts them.
    pub fn complete(&mut self) {
        let threads = self.all();
        if !threads.is_empty() {
            self.count = u32::try_from(threads.len()).ok();
        }
        if !self.threads.is_empty() {
            self.threads = threads;
        }
    }

    /// All threads: those that are described, then those that take the lowest free numbers.
    #[must_use]
    pub fn all(&self) -> Vec<IoThread> {
        let mut threads = self.threads.clone();
        let missing = (self.count.unwrap_or_default() as usize).saturating_sub(threads.len());
        let is_free = |id: &u32| !self.threads.iter().any(|thread| thread.id == *id);
        threads.extend(
            (1..).filter(is_free).take(missing).map(|id| IoThread { id, ..IoThread::default() }),
        );
        threads
    }

    /// The numbers of all threads.
    #[must_use]
    pub fn ids(&self) -> Vec<u32> {
        self.all().iter().map(|thread| thread.id).collect()
    }

    pub(crate) fn write(&self, writer: &mut Writer) {
        if let Some(count) = self.count {
            writer.element("iothreads").text(count);
        }
        writer.element("iothreadids").children_if_any(|w| {
            for thread in &self.threads {
                let element = w.element("iothread").attribute("id", thread.id);
                thread.pool.write_attributes(element).children(|w| thread.poll.write("poll", w));
            }
        });
        self.default_pool.write("defaultiothread", writer);
    }
}

impl ThreadPool {
    fn check(&self, reader: &Reader<'_>) {
        if self.min.zip(self.max).is_some_and(|(min, max)| min > max) {
            reader.refuse_attribute("thread_pool_min", "it is above thread_pool_max; give less");
        }
        if self.max == Some(0) {
            reader.refuse_attribute("thread_pool_max", "a pool has at least one thread");
        }
    }
}

impl IoThread {
    fn parse(reader: &Reader<'_>) -> Option<Self> {
        let _ = reader.required("id", "1"); // The number itself is read next.
        let id = reader.number("id");
        let pool = ThreadPool::parse(reader);
        let poll = reader.child("poll").map(|poll| IoThreadPoll::parse(&poll));
        if id == Some(0) {
            reader.refuse_attribute("id", "numbers begin at 1");
        }
        pool.check(reader);
        Some(Self { id: id?, pool, poll: poll.unwrap_or_default() })
    }
}
