// The two tables of sheepfs(5) with the real kernel and the real tools, over volumes in memory. What the tools do on a
// whole cluster is in Tests/system/test_namespace.py.
import Testing

@Suite(.serialized, .enabled(if: RealMount.isPossible, "mounting needs root and /dev/fuse"))
struct RealToolsTests {
    private func expect(_ options: [String] = [], _ script: String) throws {
        let mount = try RealMount(options)
        let (status, output) = mount.run(RealMount.strict + script)
        #expect(status == 0, "\(output)")
    }

    @Test func volumesAreCreatedGrownAndShrunk() throws {
        try expect(
            script: """
                truncate -s 10M a.img; [ $(stat -c %s a.img) = 10485760 ]
                touch b.img; [ $(stat -c %s b.img) = 0 ]
                printf hello > c.img; [ "$(cat c.img)" = hello ]
                printf ' world' >> c.img; [ "$(cat c.img)" = "hello world" ]
                truncate -s 3 c.img; truncate -s 6 c.img; [ "$(cat c.img | tr '\\0' .)" = "hel..." ]
                fallocate -l 20M b.img; [ $(stat -c %s b.img) = 20971520 ]; [ $(stat -c %b b.img) = 0 ]
                no fallocate -c -o 0 -l 4096 b.img
                ls -A | sort | tr '\\n' ' ' | grep -qx '.lineage a.img b.img c.img '
                """)
    }
    private func expect(script: String) throws { try expect([], script) }

    @Test func linkIsSnapshotOrClone() throws {
        try expect(
            script: """
                printf one > vol.img
                ln vol.img vol@t.img; printf two > vol.img
                [ "$(cat vol@t.img)" = one ]; [ "$(cat vol.img)" = two ]
                ln vol@t.img web.img; [ "$(cat web.img)" = one ]; printf x >> web.img; [ "$(cat web.img)" = onex ]
                ln vol.img now.img; printf three > vol.img; [ "$(cat now.img)" = two ]
                [ $(stat -c %i vol.img) != $(stat -c %i vol@t.img) ]
                [ $(stat -c %h vol@t.img) = 1 ]; [ $(stat -c %a vol@t.img) = 444 ]
                no ln vol@t.img vol@u.img; no ln web.img vol@u.img; no ln vol.img vol@t.img
                no ln vol.img 'vol@b d.img'
                touch disk; ln disk disk@x; [ -e disk@x ]
                """)
    }
    @Test func copyOfASnapshotIsAClone() throws {
        let mount = try RealMount()
        let (status, output) = mount.run(
            RealMount.strict + """
                dd if=/dev/urandom of=vol.img bs=1M count=4 status=none; ln vol.img vol@t.img
                cp vol@t.img new.img; cmp vol@t.img new.img
                [ "$(getfattr --only-values -n user.sheep.parent new.img)" = /vol@t.img ]
                [ "$(getfattr --only-values -n user.sheep.allocated new.img)" = 0 ]
                printf abc | dd of=new.img bs=1 conv=notrunc status=none; no cmp -s vol@t.img new.img
                stat new.img >/dev/null; rm new.img; no stat new.img 2>/dev/null
                """)
        #expect(status == 0, "\(output)")
    }
    @Test func copyOfAVolumeIsSparseAndCorrect() throws {
        try expect(
            script: """
                truncate -s 8M vol.img; printf data | dd of=vol.img bs=1 seek=5000000 conv=notrunc status=none
                cp vol.img copy.img; cmp vol.img copy.img; [ $(stat -c %b copy.img) -lt 1000 ]
                cp -a vol.img all.img; cmp vol.img all.img
                """)
    }
    @Test func optionMakesTheCopyOfAVolumeAClone() throws {
        try expect(
            ["cp=clone"],
            """
            truncate -s 8M vol.img; printf data | dd of=vol.img bs=1 seek=5000000 conv=notrunc status=none
            cp vol.img copy.img; cmp vol.img copy.img
            [ "$(getfattr --only-values -n user.sheep.allocated copy.img)" = 0 ]
            """)
    }
    @Test func copyToASnapshotNameTakesTheSnapshot() throws {
        try expect(
            script: """
                dd if=/dev/urandom of=vol.img bs=1M count=3 status=none; truncate -s 5M vol.img
                cp vol.img vol@t.img; cmp vol.img vol@t.img; [ $(stat -c %a vol@t.img) = 444 ]
                truncate -s 1M other.img; no cp other.img vol@wrong.img
                cp -f vol.img vol@t.img
                """)
    }
    @Test func replacementAndTemporaryNames() throws {
        try expect(
            script: """
                printf one > vol.img; ln vol.img vol@t.img; printf two > vol.img
                ln -f vol.img vol@t.img; [ "$(cat vol@t.img)" = two ]
                printf old > other.img; ln -f vol.img other.img; [ "$(cat other.img)" = two ]
                ln -f vol@t.img other.img; [ "$(cat other.img)" = two ]
                ls -A | sort | tr '\\n' ' ' | grep -qx '.lineage other.img vol.img vol@t.img '
                exec 9< other.img; printf x > y.img; no mv -f y.img other.img; exec 9<&-; mv -f y.img other.img
                [ "$(cat other.img)" = x ]; no mv -f other.img vol.img
                printf three > vol.img; rsync vol.img vol@r.img; [ "$(cat vol@r.img)" = three ]
                printf four > vol.img; rsync -I vol.img vol@r.img; [ "$(cat vol@r.img)" = four ]
                rsync vol.img new.img; cmp vol.img new.img; rsync -a vol@t.img from.img; [ "$(cat from.img)" = two ]
                """)
    }
    @Test func moves() throws {
        try expect(
            script: """
                mkdir d e; printf one > vol.img; ln vol.img vol@t.img
                mv vol.img d/new.img; [ "$(cat d/new@t.img)" = one ]; no [ -e vol@t.img ]; no [ -e vol.img ]
                mv d/new@t.img d/new@u.img; [ -e d/new@u.img ]; no [ -e d/new@t.img ]
                no mv -T d/new@u.img d/plain.img
                """ + "\n" + """
                    mv d e/; [ -e e/d/new.img ]; mv -T e/d d2; [ -e d2/new@u.img ]; mkdir empty; mv -T d2 empty; [ -e empty/new.img ]
                    no mv -T e/ empty/new.img
                    """)
    }
    @Test func removal() throws {
        try expect(
            script: """
                printf one > vol.img; ln vol.img vol@t.img
                no rm -f vol.img 2>$T/e; grep -q 'not empty' $T/e
                exec 9< vol@t.img; no rm -f vol@t.img 2>$T/e; grep -q busy $T/e; exec 9<&-
                rm -f vol@t.img
                exec 9< vol.img; no rm -f vol.img 2>$T/e; grep -q busy $T/e; exec 9<&-
                rm vol.img; no [ -e vol.img ]; mkdir d; touch d/v; no rmdir d; rm d/v; rmdir d
                """)
    }
    @Test func groupSnapshots() throws {
        try expect(
            script: """
                mkdir d; printf a > d/a.img; printf b > d/b.img; mkdir d/.snap/now
                printf c > d/a.img; [ "$(cat d/.snap/now/a.img)" = a ]; [ "$(cat d/a@now.img)" = a ]
                [ $(stat -c %i d/.snap/now/a.img) = $(stat -c %i d/a@now.img) ]
                [ "$(ls d/.snap)" = now ]; [ "$(ls d/.snap/now | tr '\\n' ' ')" = "a.img b.img " ]
                no mkdir d/.snap/now; no mkdir 'd/.snap/b d'; no touch d/.snap/now/x; [ -z "$(ls -A d | grep snap || true)" ]
                rmdir d/.snap/now; no [ -e d/a@now.img ]; no [ -e d/.snap/now ]
                """)
    }
    @Test func lineage() throws {
        try expect(
            script: """
                mkdir d; printf one > d/vol.img
                mkdir .lineage/d/vol.img/monday; [ "$(cat d/vol@monday.img)" = one ]
                mkdir .lineage/d/vol.img/monday/web.img; [ "$(cat d/web.img)" = one ]
                no rmdir .lineage/d/vol.img/monday; no rmdir .lineage/d/vol.img/monday/web.img; no mkdir .lineage/x
                [ "$(cd .lineage && find . | sort | tr '\\n' ' ')" = ". ./d ./d/vol.img ./d/vol.img/monday ./d/vol.img/monday/web.img " ]
                rm d/web.img; rmdir .lineage/d/vol.img/monday; no [ -e d/vol@monday.img ]
                """)
    }
    @Test func controlFiles() throws {
        try expect(
            script: """
                [ "$(cat .sheep/status)" = "status text" ]; [ $(ls .sheep | wc -l) = 6 ]; [ -z "$(ls -A | grep sheep || true)" ]
                no touch .sheep/x; no sh -c 'echo x > .sheep/status'; no rm -f .sheep/status; no rmdir .sheep
                """)
    }
    @Test func holesAndSpace() throws {
        try expect(
            script: """
                dd if=/dev/urandom of=vol.img bs=1M count=4 status=none; [ $(stat -c %b vol.img) = 8192 ]
                fallocate -p -o 1M -l 1M vol.img; [ $(stat -c %b vol.img) = 6144 ]
                fallocate -z -o 2M -l 1M vol.img; [ $(stat -c %s vol.img) = 4194304 ]
                [ "$(qemu-img map --output=json -f raw vol.img | grep -c '"data": true')" = 2 ]
                [ "$(du -k vol.img | cut -f1)" = 2048 ]; df . | tail -1 | grep -q 314572800
                ln vol.img vol@t.img; [ $(stat -c %b vol@t.img) = 8192 ]
                """)
    }
    @Test func extendedAttributes() throws {
        try expect(
            script: """
                touch vol.img; ln vol.img vol@t.img
                [ "$(getfattr --only-values -n user.sheep.copies vol.img)" = 3 ]
                setfattr -n user.sheep.copies -v 2 vol.img; [ "$(getfattr --only-values -n user.sheep.copies vol.img)" = 2 ]
                no setfattr -n user.sheep.copies -v x vol.img; no setfattr -n user.sheep.id -v 1 vol.img
                [ "$(getfattr --only-values -n user.sheep.tag vol@t.img)" = t ]
                no getfattr -n user.other vol.img; [ -z "$(getfattr -d vol.img)" ]
                """)
    }
    @Test func snapshotsAreReadOnly() throws {
        try expect(
            script: """
                printf one > vol.img; ln vol.img vol@t.img
                no sh -c 'echo x > vol@t.img' 2>$T/e; grep -q 'Read-only' $T/e
                no truncate -s 0 vol@t.img; no chmod +w vol@t.img; chmod 440 vol@t.img; chown 7:7 vol.img
                [ $(stat -c %u vol.img) = 7 ]; chmod 600 vol.img; [ $(stat -c %a vol.img) = 600 ]
                touch -d 2001-01-01 vol.img; [ $(stat -c %Y vol.img) = $(date -d 2001-01-01 +%s) ]
                """)
    }
    @Test func locksBetweenProcesses() throws {
        try expect(
            script: """
                truncate -s 1M vol.img
                cat > $T/lock.py <<'PY'
                import fcntl, os, struct, subprocess, sys, time
                def ofd(f, kind, start, wait=False):
                    fcntl.fcntl(f, 38 if wait else 37, struct.pack('hhqqi', kind, 0, start, 1, 0))
                a = open('vol.img', 'r+b', 0); b = open('vol.img', 'r+b', 0)
                ofd(a, fcntl.F_WRLCK, 100)
                try: ofd(b, fcntl.F_RDLCK, 100); sys.exit('the lock was given twice')
                except OSError: pass
                ofd(b, fcntl.F_RDLCK, 101)
                a.close(); time.sleep(0.05)
                ofd(b, fcntl.F_RDLCK, 100)
                c = open('vol.img', 'r+b', 0)
                fcntl.lockf(c, fcntl.LOCK_EX, 10, 0)
                child = subprocess.run([sys.executable, '-c', "import fcntl; f=open('vol.img','r+b'); fcntl.lockf(f, fcntl.LOCK_EX|fcntl.LOCK_NB, 10, 5)"], capture_output=True)
                assert child.returncode != 0
                waiter = subprocess.Popen([sys.executable, '-c', "import fcntl; f=open('vol.img','r+b'); fcntl.lockf(f, fcntl.LOCK_EX, 10, 5)"])
                time.sleep(0.3); assert waiter.poll() is None
                open('vol.img').close()  # POSIX: any close drops them
                assert waiter.wait(5) == 0
                PY
                python3 $T/lock.py
                """)
    }
    @Test func waitingForALockIsInterrupted() throws {
        try expect(
            script: """
                touch vol.img
                cat > $T/lock.py <<'PY'
                import fcntl, signal, struct
                a = open('vol.img', 'r+b', 0); b = open('vol.img', 'r+b', 0)
                fcntl.fcntl(a, 37, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 1, 0))
                class Alarm(Exception): pass
                def ring(*_): raise Alarm
                signal.signal(signal.SIGALRM, ring); signal.setitimer(signal.ITIMER_REAL, 0.2)
                try: fcntl.fcntl(b, 38, struct.pack('hhqqi', fcntl.F_WRLCK, 0, 0, 1, 0)); raise SystemExit('got it')
                except Alarm: pass
                PY
                python3 $T/lock.py
                """)
    }
    @Test func qemuTools() throws {
        try expect(
            script: """
                qemu-img create -q -f raw vol.img 64M; qemu-img info vol.img | grep -q '64 MiB'
                qemu-io -f raw -c 'write -P 5 1M 2M' -c 'read -P 5 1M 2M' -c 'discard 1M 1M' -c 'read -P 0 1M 1M' vol.img >$T/o
                no grep -qi fail $T/o; qemu-img resize -q -f raw vol.img 128M; [ $(stat -c %s vol.img) = 134217728 ]
                qemu-img convert -f raw -O raw vol.img copy.img; qemu-img compare -q vol.img copy.img
                qemu-img convert -C -f raw -O raw vol.img off.img; qemu-img compare -q vol.img off.img
                qemu-img create -q -f qcow2 -o preallocation=metadata q.qcow2 16M
                qemu-io -c 'write -P 7 0 8M' q.qcow2 >/dev/null; qemu-img check -q q.qcow2
                for aio in threads native io_uring; do
                  qemu-img bench -q -f raw -t none -i $aio -c 200 -d 8 -s 4096 -w vol.img >/dev/null
                done
                """)
    }
    @Test func badNames() throws {
        try expect(
            script: """
                touch vol.img
                e() { no touch -- "$1" 2>$T/e; grep -q "$2" $T/e; }
                e 'a@b@c.img' 'Invalid'; e 'nothing@t.img' 'No such'; e "$(printf 'x%.0s' $(seq 300))" 'too long'
                e "vol@$(printf 'x%.0s' $(seq 65)).img" 'Invalid'; no mkdir 'a@b'; no mkdir .snap; no ln -s x y; no mkfifo p
                truncate -s 18014398505287680 vol.img; no truncate -s 18014398505287681 vol.img; truncate -s 0 vol.img
                truncate -s 16T vol.img; [ $(stat -c %s vol.img) = 17592186044416 ]
                no truncate -s 9000000000000000000 vol.img 2>$T/e; grep -qi 'large' $T/e
                """)
    }
    @Test func hiddenSnapshotsAreNotListedButOpen() throws {
        try expect(
            ["snapshots=hidden"],
            "printf a > v.img; ln v.img v@t.img; [ \"$(ls)\" = v.img ]; [ \"$(cat v@t.img)\" = a ]")
    }
    @Test func readOnlyMountRefusesChanges() throws {
        try expect(["ro"], "no touch x; no mkdir d; ls -A >/dev/null")
    }
    @Test func mappedAndBufferedUse() throws {
        try expect(
            script: """
                truncate -s 1M vol.img
                python3 - <<'PY'
                import mmap
                with open('vol.img', 'r+b') as f:
                    m = mmap.mmap(f.fileno(), 0); m[5000:5005] = b'hello'; m.flush(); m.close()
                assert open('vol.img', 'rb').read()[5000:5005] == b'hello'
                PY
                """)
    }
}
