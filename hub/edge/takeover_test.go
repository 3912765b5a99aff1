package edge_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/connhub/connhub/hub"
	"github.com/connhub/connhub/hub/edge"
	"github.com/connhub/connhub/hub/edge/webpubsub"
)

// A message that is being carried out when the client takes over comes first, whether it needs an
// answer or not.
func TestWhatAClientSendsStaysInOrderWhenItTakesOver(t *testing.T) {
	for _, first := range []string{`,"ackId":1`, ""} {
		p := &slowly{}
		eachLink(t, func(t *testing.T, b *bed) {
			p.hub, p.first = b.hub, make(chan struct{})
			p.published.Store(0)
			c, other := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON),
				b.pubsub(t, "group=g", webpubsub.NameJSON)
			command := fmt.Sprintf(`{"type":"sendToGroup","group":"g"%s,"data":1}`, first)
			c.say(command)
			synctest.Wait()
			c.back()
			time.AfterFunc(400*time.Millisecond, func() { close(p.first) }) // of the bubble's clock
			if first != "" {
				c.say(command)
			}
			c.say(`{"type":"sendToGroup","group":"g","data":2}`)
			c.say(`{"type":"sendToGroup","group":"g","ackId":3,"data":3}`)
			for i := 1; i <= 3; i++ {
				other.want(fmt.Sprintf(
					`{"type":"message","from":"group","group":"g","fromUserId":"ann",`+
						`"dataType":"json","data":%d}`, i))
			}
		}, func(_ *hub.Config, c *edge.Config) { c.Protocols = webpubsub.Protocols(p) })
	}
}

// failing is a Publisher that calls how instead of publishing the first message.
type failing struct {
	slowly

	how func() error
}

// Publish implements edge.Publisher.
func (p *failing) Publish(ctx context.Context, s *hub.Send) error {
	if p.published.Add(1) == 1 {
		<-p.first
		return p.how()
	}
	return p.here.Publish(ctx, s)
}

func TestCommandThatFailedOnTheLinkBeforeIsCarriedOutAnew(t *testing.T) {
	for name, how := range map[string]func() error{
		"fault":   func() error { return errors.New("a fault") },
		"refusal": func() error { return hub.ErrShuttingDown },
		"panic":   func() error { panic("a fault") },
	} {
		// the command is sent again while the first runs, or after its end
		for _, early := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, again early=%t", name, early), func(t *testing.T) {
				p := &failing{how: how}
				bubble(t, func(t *testing.T, b *bed) {
					p.hub, p.first = b.hub, make(chan struct{})
					c := b.pubsub(t, "user=ann", webpubsub.NameReliableJSON)
					const command = `{"type":"sendToGroup","group":"g","ackId":1,"data":1}`
					c.say(command)
					synctest.Wait()
					c.back()
					if early {
						c.say(command)
						synctest.Wait()
					}
					close(p.first)
					synctest.Wait()
					if !early {
						c.say(command)
					}
					c.want(`{"type":"ack","ackId":1,"success":true}`)
					if n := p.published.Load(); n != 2 {
						t.Errorf("published %d times", n)
					}
				}, func(_ *hub.Config, c *edge.Config) { c.Protocols = webpubsub.Protocols(p) })
			})
		}
	}
}
