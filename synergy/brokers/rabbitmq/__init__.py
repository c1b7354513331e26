"""RabbitMQ as the broker: durable queues, one for each process, and confirms in a window.

    exchange <prefix>.units ──routing key = process──▶ queue <prefix>.units.<process> ─▶ workers
    exchange <prefix>.bell  ──routing key = role────▶ a queue of each program that listens
    queues   <prefix>.dead, <prefix>.parked          messages that are no proper ones, with reasons

Each publisher, consumer and bell has a connection and a thread of its own (`link`), in which all
of pika happens: heartbeats are answered while the program is busy, and nothing that the server
does makes the program wait.  `address` reads the URL, `server` is the first talk with the server
and turns what can go wrong there into sentences, `topology` says what has to be declared.
"""

from synergy.brokers.rabbitmq.broker import RabbitBroker

__all__ = ["RabbitBroker"]
