package dev.acme;

class Shop {}
