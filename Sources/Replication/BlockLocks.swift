// Locks on the blocks of one object: writers exclude readers and writers of the same blocks, in the order of arrival.
// Without them replicas diverge under plain concurrent writes.
import Model

/// First come, first served: a request waits for every earlier conflicting one, held or waiting.
struct BlockLocks {
    typealias Ticket = UInt64
    private struct Entry {
        let ticket: Ticket
        let blocks: BlockRange
        let isExclusive: Bool
        var grant: (() -> Void)?
        /// Its write waits for copies: a pull that makes one of them need not wait for it.
        var yields = false
        /// A pull: waits only for what is held and does not yield.
        var overtakes = false
    }
    /// Held ones have no `grant` any more. In order of arrival.
    private var entries: [Entry] = []
    private var nextTicket: Ticket = 1

    var isEmpty: Bool { entries.isEmpty }

    /// The ticket to release it by, when nothing conflicts; else nil, and `wait` is for that.
    mutating func acquire(_ blocks: BlockRange, exclusive: Bool) -> Ticket? {
        for entry in entries
        where (entry.isExclusive || exclusive) && entry.blocks.overlaps(blocks) && !Saboteur.isOn(.noBlockLock) {
            return nil
        }
        let ticket = nextTicket
        nextTicket += 1
        entries.append(Entry(ticket: ticket, blocks: blocks, isExclusive: exclusive, grant: nil))
        return ticket
    }

    /// Calls `grant` with the ticket when what conflicts has been released; something does.
    mutating func wait(_ blocks: BlockRange, exclusive: Bool, _ grant: @escaping (Ticket) -> Void) {
        let ticket = nextTicket
        nextTicket += 1
        entries.append(Entry(ticket: ticket, blocks: blocks, isExclusive: exclusive, grant: { grant(ticket) }))
    }

    /// As `acquire` (exclusive), for a pull: it goes before those that wait, and past holders that yield.
    mutating func overtake(_ blocks: BlockRange, _ grant: @escaping () -> Void) -> (Ticket, Bool) {
        let ticket = nextTicket
        nextTicket += 1
        var entry = Entry(ticket: ticket, blocks: blocks, isExclusive: true, grant: grant)
        entry.overtakes = true
        guard canOvertake(entry) else {
            entries.append(entry)
            return (ticket, false)
        }
        entry.grant = nil
        entries.insert(entry, at: 0)
        return (ticket, true)
    }

    private func canOvertake(_ entry: Entry) -> Bool {
        !entries.contains { $0.grant == nil && !$0.yields && $0.blocks.overlaps(entry.blocks) }
    }

    /// What holds these blocks waits for copies now. Returns the pulls that may run, as `release` does.
    mutating func yield(_ blocks: BlockRange) -> [() -> Void] {
        for i in entries.indices where entries[i].grant == nil && entries[i].blocks.overlaps(blocks) {
            entries[i].yields = true
        }
        return grantOvertakers()
    }

    private mutating func grantOvertakers() -> [() -> Void] {
        var granted: [() -> Void] = []
        while let i = entries.firstIndex(where: { $0.overtakes && $0.grant != nil && canOvertake($0) }) {
            var entry = entries.remove(at: i)
            granted.append(entry.grant!)
            entry.grant = nil
            entries.insert(entry, at: 0)
        }
        return granted
    }

    /// Lets go; returns what may run now, in order of arrival. The caller runs it.
    mutating func release(_ ticket: Ticket) -> [() -> Void] {
        guard let index = entries.firstIndex(where: { $0.ticket == ticket }) else {
            preconditionFailure("a lock released twice")
        }
        let released = entries.remove(at: index)
        var granted = grantOvertakers()
        guard entries.count > index else { return granted }
        for i in index..<entries.count where entries[i].grant != nil && entries[i].blocks.overlaps(released.blocks) {
            let waiter = entries[i]
            let blocked = entries[..<i].contains {
                ($0.isExclusive || waiter.isExclusive) && $0.blocks.overlaps(waiter.blocks)
            }
            if !blocked {
                granted.append(waiter.grant!)
                entries[i].grant = nil
            }
        }
        return granted
    }
}
