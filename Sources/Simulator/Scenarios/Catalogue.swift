// All scenarios, and for every row of the table of failures (architecture page, "Failures") those that play it.

extension Scenario {
    package static let all: [Scenario] = gateways + partitions

    /// What can happen, in the order of the table, with the names of its scenarios: at least one each.
    package static let table: [(event: String, scenarios: [String])] = [
        (
            "gateway process killed mid-write, restarted on the same host",
            ["gateway-killed-mid-write"]
        ),
        ("gateway host dies mid-write", ["gateway-host-dies-mid-write"]),
        ("process stopped for longer than its lease, then continued", ["stopped-longer-than-its-lease"]),
        ("corosync stopped for 4 s, then continued, under load", ["corosync-stopped-under-load"]),
        (
            "partition 2/1, 2/2, 1/1; one-way loss; data network only; corosync network only",
            ["partition-two-against-one", "partition-two-against-two", "partition-one-against-one"]
        ),
    ]
}
