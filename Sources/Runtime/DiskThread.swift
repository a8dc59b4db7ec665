// Threads for what blocks: a queue of jobs, run in order, whose completions go back to the loop in batches.
// A job must never touch what belongs to the loop's thread; its completion may. Threads start at the first job.
import CSheep
import Glibc
import Model

/// Something that blocks. `perform` runs on a disk thread, then `complete` on the loop's thread, which must let go
/// of everything that belongs there: the empty job may be freed by either thread.
package class DiskJob: @unchecked Sendable {
    package init() {}
    package func perform() {}
    package func complete() {}
}

private final class ClosureJob<Result>: DiskJob, @unchecked Sendable {
    private let work: @Sendable () -> Result
    private var completion: ((Result) -> Void)?
    private var result: Result?

    init(_ work: @escaping @Sendable () -> Result, _ completion: @escaping (Result) -> Void) {
        self.work = work
        self.completion = completion
    }
    override func perform() { result = work() }
    override func complete() {
        let (completion, result) = (self.completion!, self.result!)
        self.completion = nil
        self.result = nil
        completion(result)
    }
}

package final class DiskThread {
    private let queue: JobQueue
    private let name: String
    private let width: Int
    private var started = 0

    /// `name` has at most 15 characters. With `width` above 1 jobs run side by side, begun in order.
    package init(name: String, poster: LoopPoster, width: Int = 1) {
        precondition(width >= 1)
        queue = JobQueue(poster: poster, takesAll: width == 1)
        self.name = name
        self.width = width
    }

    /// What is queued is still done and completed.
    deinit { queue.close() }

    /// From the loop's thread.
    package func submit(_ job: DiskJob) {
        let waiting = queue.append(job)
        if started == 0 || (waiting > 0 && started < width) { startThread() }
    }

    package func submit<Result>(
        _ work: @escaping @Sendable () -> Result, completion: @escaping (Result) -> Void
    ) { submit(ClosureJob(work, completion)) }

    private func startThread() {
        let argument = Unmanaged.passRetained(queue)
        let failure = csheep_start_thread(
            { Unmanaged<JobQueue>.fromOpaque($0!).takeRetainedValue().work() }, argument.toOpaque(), name)
        if failure == 0 {
            started += 1
        } else {
            argument.release()
            precondition(started > 0, "no disk thread could be started: errno \(failure)")
        }
    }
}

private final class JobQueue: @unchecked Sendable {
    private let poster: LoopPoster
    private let takesAll: Bool
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)
    // Guarded by the mutex.
    private var jobs: [DiskJob] = []
    private var head = 0
    private var idle = 0
    private var isClosed = false

    /// After so much work completions are not held back for the rest of a batch.
    private static let patienceNanoseconds: UInt64 = 100_000

    init(poster: LoopPoster, takesAll: Bool) {
        self.poster = poster
        self.takesAll = takesAll
        pthread_mutex_init(mutex, nil)
        pthread_cond_init(condition, nil)
    }
    deinit {
        pthread_mutex_destroy(mutex)
        pthread_cond_destroy(condition)
        mutex.deallocate()
        condition.deallocate()
    }

    /// The number of jobs that no idle thread is there for.
    func append(_ job: DiskJob) -> Int {
        pthread_mutex_lock(mutex)
        jobs.append(job)
        let waiting = jobs.count - head - idle
        let wake = idle > 0
        pthread_mutex_unlock(mutex)
        if wake { pthread_cond_signal(condition) }
        return waiting
    }

    func close() {
        pthread_mutex_lock(mutex)
        isClosed = true
        pthread_mutex_unlock(mutex)
        pthread_cond_broadcast(condition)
    }

    /// The body of a thread.
    func work() {
        var batch: [DiskJob] = []
        while take(into: &batch) {
            var finished: [DiskJob] = []
            var start = csheep_boottime()
            for job in batch {
                job.perform()
                finished.append(job)
                if batch.count > 1, csheep_boottime() - start > JobQueue.patienceNanoseconds {
                    deliver(&finished)
                    start = csheep_boottime()
                }
            }
            batch.removeAll(keepingCapacity: true)
            deliver(&finished)
        }
    }

    private func deliver(_ finished: inout [DiskJob]) {
        guard !finished.isEmpty else { return }
        let jobs = finished
        finished = []
        poster.post { for job in jobs { job.complete() } }
    }

    /// Waits for work; false when there will be none.
    private func take(into batch: inout [DiskJob]) -> Bool {
        pthread_mutex_lock(mutex)
        defer { pthread_mutex_unlock(mutex) }
        while head == jobs.count {
            if isClosed { return false }
            idle += 1
            pthread_cond_wait(condition, mutex)
            idle -= 1
        }
        if takesAll {
            swap(&jobs, &batch)
        } else {
            batch.append(jobs[head])
            head += 1
            if head == jobs.count || head >= 256 {
                jobs.removeFirst(head)
                head = 0
            }
        }
        return true
    }
}
