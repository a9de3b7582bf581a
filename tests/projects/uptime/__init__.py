"""A project that is told by cron jobs that they ran: keys belong to projects, whose members look after them."""
