// All scenarios, and for every row of the table of failures (architecture page, "Failures") those that play it.

extension Scenario {
    package static let all: [Scenario] =
        gateways + replicas + frozen + powerLosses + partitions + interruptions + membership + disks + messages

    /// What can happen, in the order of the table, with the names of its scenarios: at least one each.
    package static let table: [(event: String, scenarios: [String])] = [
        ("gateway process killed mid-write, restarted on the same host", ["gateway-killed-mid-write"]),
        ("gateway host dies mid-write", ["gateway-host-dies-mid-write"]),
        ("process stopped for longer than its lease, then continued", ["stopped-longer-than-its-lease"]),
        ("corosync stopped for 4 s, then continued, under load", ["corosync-stopped-under-load"]),
        ("replica killed; replica hung", ["replica-killed", "replica-hung"]),
        ("some copies got a write, then every process is killed", ["some-copies-written-then-all-killed"]),
        ("overlapping concurrent writes from one host", ["overlapping-writes"]),
        (
            "written on A and B, both gone, old C comes back",
            ["an-old-copy-comes-back-alone", "all-current-copies-are-lost"]
        ),
        ("old node boots alone", ["an-old-node-boots-alone"]),
        (
            "foreign node (other cluster id, wiped store with an old id)",
            ["strangers-knock", "a-disk-of-another-cluster", "a-wiped-store-with-its-old-id"]
        ),
        (
            "power loss of one store; of all",
            ["power-loss-of-one", "power-loss-of-all", "power-lost-again", "power-lost-twice"]
        ),
        (
            "partition 2/1, 2/2, 1/1; one-way loss; data network only; corosync network only",
            [
                "partition-two-against-one", "partition-two-against-two", "partition-one-against-one", "one-way-loss",
                "partition-of-the-data-network", "partition-of-corosyncs-network", "cut-off-before-corosync-knows",
            ]
        ),
        (
            "crash during epoch change, take-over, resync, snapshot, clone, delete, rollback",
            [
                "crash-during-epoch-change", "crash-during-take-over", "crash-during-resync", "crash-during-snapshot",
                "crash-during-clone", "crash-during-delete", "crash-during-rollback",
            ]
        ),
        ("node joins, leaves, joins again while moving", ["joins-leaves-joins-again"]),
        ("deletes while a node is away", ["deleted-while-a-node-is-away"]),
        (
            "store full; EIO on read, on write, on sync; header damaged; journal torn",
            ["store-full", "read-error", "write-error", "sync-error", "header-damaged", "journal-torn"]
        ),
        (
            "bit rot in data, in a checksum table, in the index",
            ["rot-in-data", "rot-in-a-checksum-table", "rot-in-the-index"]
        ),
        ("an unflushed overwrite reaches the disk before its journal record, then power is lost", ["write-ahead"]),
        ("all stores of a range are down while others are up", ["all-stores-of-a-range-are-down"]),
        ("a host reboots within one epoch, unnoticed", ["rebooted-within-an-epoch"]),
        ("a copy returns ahead, with writes nobody acked", ["copy-returns-ahead"]),
        ("VM restarted elsewhere while its old host was cut off, then healed", ["vm-restarted-elsewhere"]),
        (
            "message duplicated, delayed, reordered between connections, truncated, garbage, from a peer without the key",
            ["connections-break-under-load", "a-slow-network", "garbage-on-the-wire", "strangers-knock"]
        ),
        ("clock steps", ["clock-steps", "clock-steps-on-a-single-host"]),
    ]
}
