package main

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/connhub/connhub/control/mesh"
	"github.com/connhub/connhub/discovery"
	"github.com/connhub/connhub/hub"
)

// restarts counts how often the process went on with another hub in the place of one that was over.
type restarts struct{ forgotten, declaredDead float64 }

// startsAnew reports whether another hub is to take the place of one that ended with err.
func startsAnew(err error) bool {
	return errors.Is(err, mesh.ErrForgotten) || errors.Is(err, discovery.ErrDeclaredDead)
}

// successor plans the hub that follows s, which ended with err: it has another id, and the same addresses.
func (s *server) successor(p serverPlan, err error) serverPlan {
	a := s.addresses()
	p.hub.ID = hub.NewID()
	p.listenClients, p.listenControl, p.listenOps = a.clients, a.control, a.ops
	if a.etcd != "" {
		p.cluster.embedded.ClientAddress = a.etcd
	}
	if errors.Is(err, discovery.ErrDeclaredDead) {
		p.restarts.declaredDead++
	} else {
		p.restarts.forgotten++
	}
	return p
}

func (r restarts) register(registry prometheus.Registerer) {
	total := prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "connhub_restarts_total",
		Help: "Times that this process closed its clients and went on as another hub, by why the one before was over.",
	}, []string{"reason"})
	total.WithLabelValues("forgotten").Add(r.forgotten)
	total.WithLabelValues("declared_dead").Add(r.declaredDead)
	registry.MustRegister(total)
}
