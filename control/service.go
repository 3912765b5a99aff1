package control

import (
	"google.golang.org/grpc"
)

// Service registers a service, by its generated function. The server checks requests against the
// rules in the proto before the service sees them, and turns errors into statuses as it does for
// its own services.
//
// The service must end its streams when the hub leaves: Leave does not, and Quiet does not wait for
// them. Shutdown waits.
type Service func(grpc.ServiceRegistrar)

// servicesOf returns the names of services.
func servicesOf(services []Service) []string {
	var n serviceNames
	for _, service := range services {
		service(&n)
	}
	return n
}

// serviceNames is a registrar that only keeps the names.
type serviceNames []string

// RegisterService implements grpc.ServiceRegistrar.
func (n *serviceNames) RegisterService(desc *grpc.ServiceDesc, _ any) {
	*n = append(*n, desc.ServiceName)
}
