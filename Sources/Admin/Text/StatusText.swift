// What `dog status` prints: in one screen what there is, what is wrong, what is at risk, and what happens next.

package enum StatusText {
    package static func status(_ report: StatusReport, size: (UInt64) -> String) -> String {
        let used = report.capacityBytes - min(report.capacityBytes, report.availableBytes)
        let percent = report.capacityBytes > 0 ? Int(Double(used) / Double(report.capacityBytes) * 100) : 0
        let settings = report.settings
        var text = """
            Cluster  \(report.clusterId.prefix(8))  \(words(report.health))
            Volumes  \(report.volumeCount), snapshots \(report.snapshotCount), objects \(report.objectCount)
            Space    \(size(report.availableBytes)) free of \(size(report.capacityBytes)) (\(percent) % used), \
            each byte kept \(settings.copies) times
            Writes   need \(settings.effectiveMinCopies) of \(settings.copies) copies

            """
        text += "Mounts   \(mounts(report.mounts))\n\n"
        text += stores(report.stores, size: size) + "\n"
        text += section("Wrong", report.problems, otherwise: "nothing")
        text += section("At risk", report.risks, otherwise: "nothing")
        text += section("Next", report.next, otherwise: "nothing to do")
        if report.recovery.phase != "idle" { text += "Recovery: \(recovery(report.recovery, size: size))\n" }
        if report.scrub.running || !report.scrub.alarms.isEmpty { text += "Scrub: \(scrub(report.scrub))" }
        return text
    }

    package static func stores(_ stores: [StoreReport], size: (UInt64) -> String) -> String {
        var table = Table("STORE", "STATE", ">IN-SYNC", ">FREE", ">CAPACITY", "SPACE", ">ZONE", "DIRECTORY")
        for store in stores {
            let share = Int(max(0, min(1, store.inSyncShare)) * 100)
            table.add(
                store.id, store.state, "\(share) %", size(store.availableBytes), size(store.capacityBytes),
                store.spaceLevel, zone(store.zone), printable(store.path))
        }
        let reasons = stores.filter { !$0.reason.isEmpty }.map { store in
            "  \(store.id) is \(store.state) since \(TimeText.short(store.changed)): \(printable(store.reason))\n"
        }
        return table.text() + reasons.joined()
    }

    package static func recovery(_ report: RecoveryReport, size: (UInt64) -> String) -> String {
        guard report.phase != "idle" else { return "nothing to recover: every copy is where it belongs" }
        var text = report.phase
        if report.objectsTotal > 0 { text += ", \(report.objectsDone) of \(report.objectsTotal) objects" }
        if report.bytesTotal > 0 { text += ", \(size(report.bytesMoved)) of \(size(report.bytesTotal))" }
        if report.bytesPerSecond > 0 {
            text += ", \(size(report.bytesPerSecond))/s"
            if report.bytesTotal > report.bytesMoved {
                let seconds = (report.bytesTotal - report.bytesMoved) / report.bytesPerSecond
                text += ", about \(TimeText.duration(seconds: seconds)) left"
            }
        }
        if !report.waitingFor.isEmpty { text += ", waiting for \(printable(report.waitingFor))" }
        return text
    }

    /// Whole lines.
    package static func scrub(_ report: ScrubReport) -> String {
        let kind = report.deep ? "deep" : "light"
        var text =
            if report.running {
                "\(kind), running: \(report.objectsDone) of \(report.objectsTotal) objects"
            } else if let finished = report.finished {
                "\(kind), finished \(TimeText.short(finished)) UTC: \(report.objectsDone) objects"
            } else { "never ran" }
        if report.blocksRepaired + report.copiesRepaired > 0 {
            text += ", repaired \(report.blocksRepaired) blocks and \(report.copiesRepaired) copies"
        }
        text += "\n"
        for alarm in report.alarms { text += "  alarm: \(printable(alarm))\n" }
        return text
    }

    package static func settings(_ report: SettingsReport) -> String {
        let rule = report.minCopies == 0 ? " (by rule: copies less one, at least one)" : ""
        return """
            copies             \(report.copies)
            min-copies         \(report.effectiveMinCopies)\(rule)
            down-out-interval  \(TimeText.duration(seconds: report.downOutIntervalMilliseconds / 1000))

            """
    }

    private static func words(_ health: String) -> String {
        switch health {
        case "healthy": "healthy"
        case "at-risk": "healthy, but at risk"
        default: "DEGRADED"
        }
    }

    private static func mounts(_ mounts: [MountReport]) -> String {
        if mounts.isEmpty { return "none" }
        return mounts.map { mount in
            let open = mount.openFiles == 1 ? "1 open file" : "\(mount.openFiles) open files"
            return "\(printable(mount.mountpoint)) (\(open))"
        }.joined(separator: ", ")
    }

    /// A zone that is a store's own is a long random number: its first digits do.
    private static func zone(_ zone: UInt64) -> String {
        zone < 1_000_000 ? "\(zone)" : String(String(zone, radix: 16).prefix(6)) + ".."
    }

    private static func section(_ title: String, _ lines: [String], otherwise: String) -> String {
        guard !lines.isEmpty else { return "\(title): \(otherwise)\n" }
        return "\(title):\n" + lines.map { "  - \(printable($0))\n" }.joined()
    }
}
