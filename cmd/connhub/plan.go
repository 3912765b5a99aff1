package main

import (
	"github.com/connhub/connhub/internal/config"
	"github.com/connhub/connhub/node"
)

// plan is the configuration of a hub while a command makes it of its knobs.
type plan struct {
	node.Config

	knobs   knobs   // of the command
	configs configs // with the values of the knobs; Hub, Edge, Heap, Drain are those of Config
}

// newPlan returns the plan of a *serveCmd or *devCmd: the defaults, and the values of the knobs for
// fields of a Config.
func newPlan(command any) *plan {
	p := &plan{Config: node.DefaultConfig(), knobs: knobsOf(command), configs: defaultConfigs()}
	p.configs.Hub, p.configs.Edge, p.configs.Heap = &p.Hub, &p.Edge, &p.Heap
	p.configs.Drain = &p.Drain
	p.configs.Control.CallBytes = p.CallBytes
	p.knobs.fillConfigs(p.configs)
	return p
}

// nameFlags returns the problems of one of the configs in words for operators; see knobs.
func (p *plan) nameFlags(of string, problems config.Problems) error {
	return p.knobs.nameFlags(of, problems)
}
