-- include arguments.lua
-- include emit.lua
-- Leaves an event that belongs to no other write.
-- KEYS       hooks
-- arguments  hook
emit(arguments.hook)
