//! Threads that serve devices.

use domain::ThreadPool;

use crate::command::Command;
use crate::json::Object;

/// Adds an object for each thread, and one for the main thread if something is said about it.
pub(crate) fn arguments(command: &mut Command<'_>) {
    let threads = &command.domain.iothreads;
    if threads.default_pool != ThreadPool::default() {
        let main = Object::new("qom-type", "main-loop").set("id", "main-loop");
        command.object(&pool(&threads.default_pool, main));
    }
    for thread in threads.all() {
        let object =
            Object::new("qom-type", "iothread").set("id", format!("iothread{}", thread.id));
        let object = object
            .some("poll-max-ns", thread.poll.max)
            .some("poll-grow", thread.poll.grow)
            .some("poll-shrink", thread.poll.shrink);
        command.object(&pool(&thread.pool, object));
    }
}

fn pool(pool: &ThreadPool, object: Object) -> Object {
    object.some("thread-pool-min", pool.min).some("thread-pool-max", pool.max)
}
