package block

import (
	"container/list"
	"sync"
)

// Cache keeps pages that were read, checked and parsed, up to a number of
// bytes, the least recently used going first. Any number of blocks may share
// one, from any number of goroutines. A nil Cache keeps nothing.
type Cache struct {
	max int64

	mu     sync.Mutex
	lastID uint64
	bytes  int64
	order  *list.List // of *cached, most recently used first
	pages  map[pageKey]*list.Element
	blocks map[uint64]map[pageKey]struct{} // what there is of each block, for drop
}

// pageKey names a page among those of all blocks of a cache.
type pageKey struct {
	block uint64
	kind  pageKind
	page  uint32
}

type cached struct {
	key  pageKey
	page parsedPage
}

// parsedPage is a page as its readers use it. It never changes.
type parsedPage interface {
	// size is the memory that it takes, in bytes.
	size() int
}

// cacheEntryBytes is about what the cache's own bookkeeping takes for a page.
const cacheEntryBytes = 256

// NewCache makes a cache of at most maxBytes.
func NewCache(maxBytes int64) *Cache {
	return &Cache{
		max: maxBytes, order: list.New(),
		pages: make(map[pageKey]*list.Element), blocks: make(map[uint64]map[pageKey]struct{}),
	}
}

// Bytes returns the memory that the cached pages take.
func (c *Cache) Bytes() int64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.bytes
}

// Option changes how a block is opened.
type Option func(*file)

// WithCache makes a block keep pages in c. Without it, each read of a page that
// is not sequential goes to the file.
func WithCache(c *Cache) Option { return func(f *file) { f.cache = c } }

// WithDamaged has the first reader of a damaged page, and every one after it,
// tell fn, which may be called from any goroutine and must not read the block. Path
// names the file in that error and in those of its readers; empty names none.
func WithDamaged(path string, fn func(error)) Option {
	return func(f *file) { f.path, f.damaged = path, fn }
}

func (c *Cache) newID() uint64 {
	if c == nil {
		return 0
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lastID++
	return c.lastID
}

func (c *Cache) get(key pageKey) parsedPage {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.pages[key]
	if !ok {
		return nil
	}
	c.order.MoveToFront(e)
	return e.Value.(*cached).page
}

func (c *Cache) put(key pageKey, p parsedPage) {
	if c == nil || int64(p.size()+cacheEntryBytes) > c.max {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.pages[key]; ok {
		return // two readers missed it at once
	}
	c.pages[key] = c.order.PushFront(&cached{key: key, page: p})
	of := c.blocks[key.block]
	if of == nil {
		of = make(map[pageKey]struct{})
		c.blocks[key.block] = of
	}
	of[key] = struct{}{}
	c.bytes += int64(p.size() + cacheEntryBytes)
	for c.bytes > c.max {
		c.removeLocked(c.order.Back())
	}
}

// drop forgets the pages of a block.
func (c *Cache) drop(block uint64) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.blocks[block] {
		c.removeLocked(c.pages[key])
	}
}

func (c *Cache) removeLocked(e *list.Element) {
	gone := c.order.Remove(e).(*cached)
	delete(c.pages, gone.key)
	of := c.blocks[gone.key.block]
	delete(of, gone.key)
	if len(of) == 0 {
		delete(c.blocks, gone.key.block)
	}
	c.bytes -= int64(gone.page.size() + cacheEntryBytes)
}

// load returns a page from the cache or reads and parses it.
func load[P parsedPage](f *file, c *Cache, kind pageKind, i int, parse func(body []byte) (P, error)) (P, error) {
	key := pageKey{block: f.id, kind: kind, page: uint32(i)}
	if p, ok := c.get(key).(P); ok {
		return p, nil
	}
	var none P
	body, err := f.read(kind, i)
	if err != nil {
		return none, err
	}
	p, err := parse(body)
	if err != nil {
		return none, f.at(kind, i, err)
	}
	c.put(key, p)
	return p, nil
}
