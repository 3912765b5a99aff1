package chaos

import (
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/connhub/connhub/test/bed"
	"github.com/connhub/connhub/test/bed/relay"
	"github.com/connhub/connhub/test/chaos/verdict"
)

const (
	// slowness is the delay of each piece of bytes on a slow link.
	slowness = 15 * time.Millisecond
	// dropShare is the share of the clients' links that "drop clients" ends, at each hub.
	dropShare = 0.5
	// lossTime is for how long bytes are held back on links that are about to be cut or dropped.
	// On loopback there would be hardly any byte to lose.
	lossTime = 100 * time.Millisecond
)

// isOfProcess reports whether a fault ends a hub or stops it.
func isOfProcess(f plannedFault) bool { return slices.Contains(processFaults, f.name) }

// strike puts a fault in force, and returns the function that mends it.
func (r *run) strike(f plannedFault) (mend func()) {
	r.t.Helper()
	p := r.pickOpen(f.place)
	switch f.name {
	case "restart":
		return r.replace(f.name, p, r.terminate)
	case "kill":
		r.replace(f.name, p, r.kill)
		// The new hub is ready when the cluster has forgotten the old hub. The schedule does not
		// wait for that.
		return func() {}
	case "drain":
		return r.replace(f.name, p, r.drain)
	case "rolling restart":
		return r.restartAll(f)
	case "stop":
		return r.stop(f.name, p)
	case "kill member":
		r.record.add(verdict.Event{Kind: verdict.Struck, Fault: f.name})
		r.etcd.KillMember(f.place)
		return r.mendBy(f.name, "", func() { r.etcd.LaunchMember(r.t, f.place) })
	case "stop member":
		r.record.add(verdict.Event{Kind: verdict.Struck, Fault: f.name})
		r.etcd.SignalMember(r.t, f.place, syscall.SIGSTOP)
		return r.mendBy(f.name, "", func() {
			r.etcd.SignalMember(r.t, f.place, syscall.SIGCONT)
		})
	}
	return r.breakNetwork(f, p)
}

// breakNetwork is strike for the faults of relays. Their names are a verb and the relays.
func (r *run) breakNetwork(f plannedFault, p *place) (mend func()) {
	r.t.Helper()
	verb, where, _ := strings.Cut(f.name, " ")
	relays := map[string][]*relay.Relay{
		"peers": {p.current().peers}, "clients": {p.clients}, "etcd": p.toEtcd,
	}[where]
	if verb == "drop" {
		relays = nil
		for _, each := range r.places {
			relays = append(relays, each.clients)
		}
	}
	random := r.newRandom(3, r.record.size())
	hub := p.current().Hub
	r.record.add(verdict.Event{Kind: verdict.Struck, Fault: f.name, Hub: hub})
	if verb == "cut" {
		for _, l := range relays {
			l.Stall()
		}
		pause(r.t.Context(), lossTime)
	}
	for _, l := range relays {
		switch verb {
		case "cut":
			l.Cut()
		case "stall":
			l.Stall()
		case "slow":
			l.Slow(slowness)
		case "strand":
			l.Strand()
		case "drop":
			l.Drop(lossTime, func() bool { return random.Float64() < dropShare })
		default:
			r.t.Fatalf("no fault is called %q", f.name)
		}
	}
	return r.mendBy(f.name, hub, func() {
		for _, l := range relays {
			l.Mend()
		}
	})
}

// mendBy returns a function that mends a fault and records it.
func (r *run) mendBy(fault, hub string, mend func()) func() {
	return func() {
		mend()
		r.record.add(verdict.Event{Kind: verdict.Mended, Fault: fault, Hub: hub})
	}
}

// replace ends the hub at a place. A new hub starts at once; it takes clients and calls when the
// fault is mended.
func (r *run) replace(fault string, p *place, end func(fault string, h *hub)) (mend func()) {
	r.t.Helper()
	old := p.current()
	end(fault, old)
	r.record.add(verdict.Event{Kind: verdict.Gone, Hub: old.Hub})
	r.launch(p)
	return r.mendBy(fault, old.Hub, func() { r.openNext(p) })
}

func (r *run) terminate(fault string, h *hub) {
	r.t.Helper()
	r.record.add(verdict.Event{Kind: verdict.Stopping, Hub: h.Hub})
	r.record.add(verdict.Event{Kind: verdict.Struck, Fault: fault, Hub: h.Hub})
	h.Terminate()
	if code := h.ExitCode(r.t, bed.StopLimit); code != 0 {
		r.t.Errorf("hub %s ends with %d after SIGTERM", h.Hub, code)
	}
}

func (r *run) kill(fault string, h *hub) {
	r.t.Helper()
	r.record.add(verdict.Event{Kind: verdict.Killing, Hub: h.Hub})
	r.record.add(verdict.Event{Kind: verdict.Struck, Fault: fault, Hub: h.Hub})
	h.Kill(r.t)
}

// drain empties a hub by the command of operators, and then ends it.
func (r *run) drain(fault string, h *hub) {
	r.t.Helper()
	r.record.add(verdict.Event{Kind: verdict.Stopping, Hub: h.Hub})
	r.record.add(verdict.Event{Kind: verdict.Struck, Fault: fault, Hub: h.Hub})
	bed.Program.MustRun(r.t, "hubs", "drain", h.Hub, "--addr", h.Control, "--timeout", "2m",
		"--secret-file", filepath.Join(r.dir, "backend.secrets"))
	h.Terminate()
	if code := h.ExitCode(r.t, bed.StopLimit); code != 0 {
		r.t.Errorf("hub %s ends with %d after its drain", h.Hub, code)
	}
}

// restartAll restarts the hubs in turn. The last hub takes clients when the fault is mended.
func (r *run) restartAll(f plannedFault) (mend func()) {
	r.t.Helper()
	mend = func() {}
	for i := range r.places {
		mend()
		p := r.places[(f.place+i)%len(r.places)]
		if p.next != nil {
			r.openNext(p)
		}
		mend = r.replace(f.name, p, r.terminate)
	}
	return mend
}

// stop stops the process of a hub.
func (r *run) stop(fault string, p *place) (mend func()) {
	r.t.Helper()
	h := p.current()
	r.record.add(verdict.Event{Kind: verdict.Struck, Fault: fault, Hub: h.Hub})
	h.Signal(r.t, syscall.SIGSTOP)
	return r.mendBy(fault, h.Hub, h.Continue)
}
